//! A vault that is open for one transaction: from the rows to the index of its owner, each step checked.
use crate::anchor::{self, Anchor, Mark};
use crate::chain::{self, Chain, Followed};
use crate::place::Place;
use crate::rows::{Intent, Rows};
use crate::secrets::Secrets;
use crate::site::Site;
use crate::sync::lock;
use crate::{Error, Result};
use std::sync::Arc;

/// A vault that is open for one transaction, every key found and everything up to the index checked.
pub(crate) struct Session<R> {
    pub(crate) rows: R,
    pub(crate) place: Place,
    pub(crate) site: Arc<Site>,
    pub(crate) chain: Arc<Chain>,
    pub(crate) secrets: Secrets,
    /// Whether an anchor is still to be made: only a vault in its first state may lack one.
    anchor_absent: bool,
}

impl<R: Rows> Session<R> {
    pub(crate) fn load(rows: R, place: Place, anchor: &Anchor, intent: Intent) -> Result<Session<R>> {
        let Followed { site, chain, manifest } = chain::follow(&rows, &place, intent)?;
        let secrets = chain.secrets(&site, manifest)?;
        Ok(Session { rows, place, site, chain, secrets, anchor_absent: anchor.is_absent() })
    }

    /// How far the directory and the index are.
    pub(crate) fn now(&self) -> [Mark; 2] {
        let mark = |owner, sequence| Mark { owner, incarnation: self.site.incarnation, sequence };
        [mark(self.site.store, self.chain.directory_sequence), mark(self.chain.user, self.secrets.index.sequence)]
    }

    /// How far they were when the anchor last heard of them.
    pub(crate) fn anchored(&self, anchor: &Anchor) -> [Option<Mark>; 2] {
        self.now().map(|mark| anchor.mark(&self.site, &self.chain.anchor, &mark.owner))
    }

    /// Refuses a database that is older than what was seen before, or of another line. Answers whether the anchor lags
    /// behind it.
    pub(crate) fn check_anchor(&self, anchor: &Anchor) -> Result<bool> {
        let agreement = (anchor.clone(), self.now());
        if lock(&self.chain.agreed).as_ref() == Some(&agreement) {
            return Ok(false);
        }
        let mut lags = false;
        let rolled_back = |what: String| Err(Error::RolledBack { path: self.site.database.clone(), what });
        let file = || self.place.anchor().display().to_string();
        for (now, seen) in self.now().iter().zip(self.anchored(anchor)) {
            match seen {
                // Creation makes the anchor last: a vault that was never written to since may still lack it.
                None if anchor.is_absent() && now.sequence == 1 => {}
                None if anchor.is_absent() => return rolled_back(format!("its anchor {} is missing", file())),
                None => return rolled_back(format!("its anchor {} is damaged, or belongs to another vault", file())),
                Some(seen) if seen.incarnation != now.incarnation => {
                    return rolled_back("it comes from before or after another restore".into());
                }
                Some(seen) if seen.sequence > now.sequence => {
                    return rolled_back(format!(
                        "it is at write {}, and write {} was seen here",
                        now.sequence, seen.sequence
                    ));
                }
                Some(seen) => lags |= seen.sequence < now.sequence,
            }
        }
        if !lags && !anchor.is_absent() {
            *lock(&self.chain.agreed) = Some(agreement);
        }
        Ok(lags)
    }

    /// Raises an anchor that lags behind what was just found sound: a write may have been cut short before it got
    /// there. Should it not be writable, it lags on.
    pub(crate) fn raise_anchor(&self) {
        let _ = anchor::raise(&self.site, &self.chain.anchor, &self.place, &self.now());
    }

    /// Before the first write, so that a kill between the two cannot leave a vault that was written and has no anchor.
    pub(crate) fn establish_anchor(&self) -> Result<()> {
        if !self.anchor_absent {
            return Ok(());
        }
        // Whoever creates the vault may be about to make the anchor, too.
        let _lock = self.place.lock_creation()?;
        anchor::establish(&self.site, &self.chain.anchor, &self.place, &self.now())
    }

    /// Opens every page and every record, and has SQLite check the file's structure. Answers with how many values opened, and
    /// with everything that is wrong.
    pub(crate) fn check_all(&mut self) -> (u64, Vec<Error>) {
        let mut wrong = match self.rows.integrity() {
            Ok(said) => said.map(|said| self.site.damaged(said)).into_iter().collect(),
            Err(e) => vec![e],
        };
        match chain::directory(&self.rows, &self.site, &self.chain.root) {
            Ok(mut directory) => wrong.extend(directory.load_each(&self.rows)),
            Err(e) => wrong.push(e),
        }
        let (values, damaged) = self.secrets.look_at_everything(&self.rows);
        wrong.extend(damaged);
        (values, wrong)
    }
}
