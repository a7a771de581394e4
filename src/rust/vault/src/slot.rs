//! Slots: the ways to the root key, as LUKS has them. Each holds the root key sealed under a provider's key.
use crate::key::{Key, Purpose};
use crate::passphrase::{self, Cost, Passphrase};
use crate::place::Place;
use crate::sealed_box::{BoxError, Context, open, seal};
use crate::site::{Part, Site, commit_to, encode};
use crate::{Error, Result, key_file, unlocked};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// The key epoch in the header of a slot's box: a provider's key is never reused for another slot.
const EPOCH: u32 = 1;
/// More slots than anybody needs: each may cost an Argon2 to try.
const MOST: usize = 16;

/// How a new vault's root key is to be reached.
#[derive(Debug)]
pub enum NewSlot<'a> {
    /// From a key file beside the configuration, made now.
    KeyFile,
    /// From a passphrase.
    Passphrase(&'a Passphrase),
}

/// What is needed to open a slot, beside the provider's key. New kinds go to the end.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq)]
pub(crate) enum Parameters {
    KeyFile {
        #[serde(with = "serde_bytes")]
        id: [u8; 8],
    },
    Passphrase {
        #[serde(with = "serde_bytes")]
        salt: [u8; 16],
        cost: Cost,
    },
}

/// The root key, and which one it is since the vault was made, counted from 1.
pub(crate) struct RootKey {
    pub(crate) epoch: u32,
    pub(crate) key: Key,
}

impl RootKey {
    pub(crate) fn random() -> Result<RootKey> {
        Ok(RootKey { epoch: 1, key: Key::random()? })
    }

    fn parse(plain: &[u8]) -> Option<RootKey> {
        let (epoch, key) = plain.split_first_chunk()?;
        Some(RootKey { epoch: u32::from_be_bytes(*epoch), key: Key::from_bytes(key)? })
    }
}

/// A slot: its parameters in clear, and the root key in a box that is bound to them.
pub(crate) struct Slot {
    pub(crate) number: u32,
    pub(crate) parameters: Parameters,
    /// SHA-256 of the parameters as they are stored.
    pub(crate) digest: [u8; 32],
    sealed: Vec<u8>,
}

/// A slot in the row of all slots.
#[derive(Serialize, Deserialize)]
struct Stored<'a> {
    number: u32,
    #[serde(borrow)]
    parameters: &'a serde_bytes::Bytes,
    #[serde(borrow)]
    sealed: &'a serde_bytes::Bytes,
}

impl Slot {
    /// Seals the root key under a provider's key.
    pub(crate) fn seal(
        site: &Site,
        number: u32,
        parameters: Parameters,
        provider: &Key,
        root: &RootKey,
    ) -> Result<Slot> {
        let digest: [u8; 32] = Sha256::digest(&*encode(&parameters)?).into();
        let context = Context::Slot { store: &site.store, slot: number, parameters: &digest };
        let plain = Zeroizing::new([&root.epoch.to_be_bytes()[..], root.key.bytes()].concat());
        let sealed = seal(&provider.subkey(Purpose::Box)?, EPOCH, &context, &plain)?;
        Ok(Slot { number, parameters, digest, sealed })
    }

    /// The row of all slots, here of this one.
    pub(crate) fn row(&self) -> Result<Vec<u8>> {
        let parameters = encode(&self.parameters)?;
        let bytes = serde_bytes::Bytes::new;
        let stored = [Stored { number: self.number, parameters: bytes(&parameters), sealed: bytes(&self.sealed) }];
        Ok(encode(&&stored[..])?.to_vec())
    }

    /// Reads the row of all slots. Slots of a kind that this version doesn't know are passed over; there is at least one
    /// other.
    pub(crate) fn parse_all(site: &Site, row: &[u8]) -> Result<Vec<Slot>> {
        let stored: Vec<Stored> = site.decode(Part::Slots, row)?;
        if stored.len() > MOST {
            return Err(site.unsealed(Part::Slots, BoxError::Malformed));
        }
        let known = |s: &Stored| {
            let (parameters, _) = postcard::take_from_bytes(s.parameters).ok()?;
            let digest = Sha256::digest(s.parameters.as_ref() as &[u8]).into();
            Some(Slot { number: s.number, parameters, digest, sealed: s.sealed.to_vec() })
        };
        let slots: Vec<Slot> = stored.iter().filter_map(known).collect();
        if slots.is_empty() {
            return Err(site.damaged("it has no key slot of a kind that this version of dkusecrets knows"));
        }
        Ok(slots)
    }

    pub(crate) fn provider(&self) -> &'static str {
        match self.parameters {
            Parameters::KeyFile { .. } => "file",
            Parameters::Passphrase { .. } => "passphrase",
        }
    }

    /// The root key, by the provider's key as it can be had without asking anyone.
    pub(crate) fn open(&self, site: &Site, place: &Place) -> Result<RootKey> {
        match &self.parameters {
            Parameters::KeyFile { id } => {
                let Some(key) = key_file::read(&place.config, id)? else {
                    let others = key_file::find_all(&place.config)?.into_iter().map(|(path, _)| path).collect();
                    return Err(Error::KeyMissing {
                        key: key_file::path(&place.config, id),
                        database: site.database.clone(),
                        others,
                    });
                };
                // The file is the one that the slot names, so if it does not fit, the slot was changed.
                self.unseal(site, &key)?.ok_or_else(|| self.changed(site))
            }
            Parameters::Passphrase { .. } => {
                let locked = || Error::Locked(site.database.clone());
                let provider = unlocked::find(&site.store, &self.digest).ok_or_else(locked)?;
                self.unseal(site, &provider)?.ok_or_else(locked)
            }
        }
    }

    /// The provider's key for a passphrase, if it opens this slot; nothing if the slot has none.
    pub(crate) fn try_passphrase(&self, site: &Site, passphrase: &Passphrase) -> Result<Option<Key>> {
        let Parameters::Passphrase { salt, cost } = &self.parameters else { return Ok(None) };
        let provider = passphrase::derive(passphrase, salt, *cost)?.ok_or_else(|| self.changed(site))?;
        match self.unseal(site, &provider)? {
            Some(_) => Ok(Some(provider)),
            None => Err(Error::WrongPassphrase(site.database.clone())),
        }
    }

    /// Refuses a slot that the directory does not know as it is.
    pub(crate) fn check(&self, site: &Site, digest: &[u8; 32], commit: &[u8]) -> Result<()> {
        if self.digest != *digest {
            return Err(self.changed(site));
        }
        site.check_expected(&self.sealed, commit, Part::Slot(self.number))
    }

    pub(crate) fn commit(&self) -> Result<[u8; 32]> {
        commit_to(&self.sealed)
    }

    fn unseal(&self, site: &Site, provider: &Key) -> Result<Option<RootKey>> {
        let context = Context::Slot { store: &site.store, slot: self.number, parameters: &self.digest };
        match open(&provider.subkey(Purpose::Box)?, &context, &self.sealed) {
            Ok(plain) => RootKey::parse(&plain).map(Some).ok_or_else(|| self.changed(site)),
            Err(BoxError::WrongKeyOrContext) => Ok(None),
            Err(e) => Err(site.unsealed(Part::Slot(self.number), e)),
        }
    }

    fn changed(&self, site: &Site) -> Error {
        site.unsealed(Part::Slot(self.number), BoxError::Tampered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passphrase::Cost;
    use std::time::{Duration, Instant};

    /// A slot that asks for more than a machine should give is refused before anything runs.
    #[test]
    fn a_slot_that_costs_too_much() {
        let site = Site { database: "/nowhere".into(), store: [1; 16], incarnation: [2; 16] };
        let cost = Cost { memory_kib: 3 * 1024 * 1024, ..Cost::RECOMMENDED };
        let (provider, root) = (Key::random().unwrap(), RootKey::random().unwrap());
        let slot = Slot::seal(&site, 1, Parameters::Passphrase { salt: [3; 16], cost }, &provider, &root).unwrap();
        let slots = Slot::parse_all(&site, &slot.row().unwrap()).unwrap();
        let begun = Instant::now();
        let refused = slots[0].try_passphrase(&site, &Passphrase::new("passphrase")).unwrap_err();
        assert_eq!(refused.kind(), "damaged");
        assert!(begun.elapsed() < Duration::from_millis(50), "{:?}", begun.elapsed());
    }

    #[test]
    fn a_slot_is_bound_to_its_number_parameters_and_store() {
        let site = Site { database: "/nowhere".into(), store: [1; 16], incarnation: [2; 16] };
        let (provider, root) = (Key::random().unwrap(), RootKey::random().unwrap());
        let slot = Slot::seal(&site, 1, Parameters::KeyFile { id: [7; 8] }, &provider, &root).unwrap();
        let opened = slot.unseal(&site, &provider).unwrap().unwrap();
        assert!(opened.key == root.key && opened.epoch == root.epoch);
        assert!(slot.unseal(&site, &root.key).unwrap().is_none());
        let other = Site { store: [9; 16], ..site.clone() };
        assert!(slot.unseal(&other, &provider).unwrap().is_none());
        let sealed = slot.sealed.clone();
        for changed in [
            Slot { number: 2, ..slot },
            Slot { number: 1, parameters: Parameters::KeyFile { id: [7; 8] }, digest: [0; 32], sealed },
        ] {
            assert!(changed.unseal(&site, &provider).unwrap().is_none());
        }
    }

    /// A later version may add ways to the root key; the others still open here.
    #[test]
    fn slots_of_unknown_kinds_are_passed_over() {
        let site = Site { database: "/nowhere".into(), store: [1; 16], incarnation: [2; 16] };
        let (provider, root) = (Key::random().unwrap(), RootKey::random().unwrap());
        let slot = Slot::seal(&site, 1, Parameters::KeyFile { id: [7; 8] }, &provider, &root).unwrap();
        let known = encode(&slot.parameters).unwrap();
        let bytes = serde_bytes::Bytes::new;
        let stored = |number, parameters| Stored { number, parameters: bytes(parameters), sealed: bytes(&slot.sealed) };
        let row = |slots: &[Stored]| encode(&slots).unwrap();
        let both = Slot::parse_all(&site, &row(&[stored(2, &[99, 1, 2]), stored(1, &known)])).unwrap();
        assert!(both.len() == 1 && both[0].unseal(&site, &provider).unwrap().is_some());
        assert_eq!(Slot::parse_all(&site, &row(&[stored(2, &[99, 1, 2])])).err().unwrap().kind(), "damaged");
    }
}
