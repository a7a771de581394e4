//! Whom the socket of a server may belong to: secrets go to who listens there. R and the program ask the same.
use crate::platform::effective_user;
use std::fs::metadata;
use std::io::{ErrorKind, Result as IoResult};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Whether a server that runs as `owner` may be told secrets on the socket `path`: root's, which can read everything
/// anyway; one's own; or that of an account which root gave the directory to that the socket lies in, as for a service.
pub fn may_serve(path: &Path, owner: u32) -> bool {
    owner == 0 || owner == effective_user() || directories(path).is_ok_and(|found| given_by_root(owner, &found))
}

/// Owner and mode of the directory that `path` lies in, and of each one above it; links are followed.
fn directories(path: &Path) -> IoResult<Vec<(u32, u32)>> {
    let directory = path.parent().ok_or(ErrorKind::NotFound)?.canonicalize()?;
    directory.ancestors().map(|above| metadata(above).map(|found| (found.uid(), found.mode()))).collect()
}

/// Whether only `owner` and root can put a socket of `owner`'s there.
fn given_by_root(owner: u32, directories: &[(u32, u32)]) -> bool {
    let private = directories.iter().all(|(_, mode)| mode & 0o022 == 0);
    let [(own, _), above @ ..] = directories else { return false };
    private && *own == owner && !above.is_empty() && above.iter().all(|(owner, _)| *owner == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_s_socket_lies_where_only_root_and_it_can_put_one() {
        let (run, root) = ((0, 0o40755), (0, 0o40755));
        assert!(given_by_root(990, &[(990, 0o40755), run, root]));
        assert!(given_by_root(990, &[(990, 0o40755), root]));
        for bad in [
            // Somebody else's directory, or root's.
            &[(991, 0o40755), run, root][..],
            &[(0, 0o40755), run, root],
            // Others can write to it, or to what is above it, sticky or not.
            &[(990, 0o40775), run, root],
            &[(990, 0o41777), run, root],
            &[(990, 0o40755), (0, 0o40775), root],
            &[(990, 0o40755), (0, 0o41777), root],
            &[(990, 0o40755), run, (0, 0o40757)],
            // What is above it is the account's, or another's.
            &[(990, 0o40755), (990, 0o40755), root],
            &[(990, 0o40755), run, (1, 0o40755)],
            &[(990, 0o40755)],
            &[],
        ] {
            assert!(!given_by_root(990, bad), "{bad:?}");
        }
    }

    #[test]
    fn directories_are_those_that_links_lead_to() {
        let scratch = tempfile::tempdir().unwrap();
        let scratch = scratch.path();
        std::fs::create_dir_all(scratch.join("real/run")).unwrap();
        std::os::unix::fs::symlink(scratch.join("real/run"), scratch.join("run")).unwrap();
        assert_eq!(
            directories(&scratch.join("run/x.sock")).unwrap(),
            directories(&scratch.join("real/run/x.sock")).unwrap()
        );
        assert_eq!(directories(Path::new("/x.sock")).unwrap().len(), 1);
        assert!(directories(&scratch.join("none/x.sock")).is_err());
    }
}
