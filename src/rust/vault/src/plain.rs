//! Plaintext that wipes itself.
use std::ops::{Deref, DerefMut};
use zeroize::Zeroize;

/// Plaintext bytes, wiped when dropped. In whole words: `Zeroizing` writes byte after byte, which for a page of an
/// index takes longer than decrypting it.
#[derive(PartialEq, Eq)]
pub struct Plain(Vec<u8>);

impl Plain {
    /// Room that a vector kept in reserve may hold what was in it before.
    fn wipe_all(&mut self) {
        wipe(&mut self.0);
        self.0.spare_capacity_mut().zeroize();
    }

    /// Keeps the first `length` bytes and wipes the others.
    pub(crate) fn truncate(&mut self, length: usize) {
        if let Some(rest) = self.0.get_mut(length..) {
            wipe(rest);
            self.0.truncate(length);
        }
    }
}

impl From<Vec<u8>> for Plain {
    fn from(bytes: Vec<u8>) -> Plain {
        Plain(bytes)
    }
}

impl Deref for Plain {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Plain {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl std::fmt::Debug for Plain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Plain(..)")
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.wipe_all();
    }
}

fn wipe(bytes: &mut [u8]) {
    let (front, words, back) = bytemuck::pod_align_to_mut::<u8, u64>(bytes);
    front.zeroize();
    words.zeroize();
    back.zeroize();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_is_wiped_and_nothing_else() {
        for (from, to) in [(0, 0), (0, 1), (1, 8), (3, 64), (7, 9), (0, 100), (99, 100)] {
            let mut bytes = [0xff; 100];
            wipe(&mut bytes[from..to]);
            assert!(bytes.iter().enumerate().all(|(i, &b)| (b == 0) == (from..to).contains(&i)), "{from}..{to}");
        }
    }

    #[test]
    fn truncating() {
        let mut plain = Plain::from(b"plaintext".to_vec());
        plain.truncate(20);
        assert_eq!(&*plain, b"plaintext");
        plain.truncate(5);
        assert_eq!(&*plain, b"plain");
        plain.wipe_all();
        assert_eq!(&*plain, [0; 5]);
    }
}
