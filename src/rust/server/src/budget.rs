//! How often a password may be tried: budgets that fill again with time, in tables whose size nobody can change.
use crate::people::Id;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// More than guesses can be checked in the time a budget takes to fill: two that share a cell are rare.
const CELLS: usize = 1 << 14;

/// What may be done: so many at once, and one more each time this many milliseconds have gone by.
#[derive(Debug, Clone, Copy)]
struct Rate {
    at_once: i64,
    each: i64,
}

/// 5 at once and 10 more in a minute: in no minute more than 15.
const ACCOUNT: Rate = Rate { at_once: 5, each: 6_000 };
/// In no minute more than 60; many people may share an address.
const SOURCE: Rate = Rate { at_once: 30, each: 2_000 };

/// A table of budgets. Each is a cell, found by a hash whose key nobody outside knows, which holds the time at which the
/// budget will be full again (the generic cell rate algorithm of ITU-T I.371).
struct Table {
    rate: Rate,
    hasher: RandomState,
    cells: Mutex<Vec<i64>>,
}

impl Table {
    fn new(rate: Rate) -> Table {
        // Zeroes: the system gives no memory to what was never written.
        Table { rate, hasher: RandomState::new(), cells: Mutex::new(vec![0; CELLS]) }
    }

    /// Changes one cell.
    fn with<T>(&self, what: &[u8], act: impl FnOnce(&mut i64, Rate) -> T) -> Option<T> {
        let hash = usize::try_from(self.hasher.hash_one(what) % CELLS as u64).ok()?;
        self.cells.lock().unwrap_or_else(PoisonError::into_inner).get_mut(hash).map(|cell| act(cell, self.rate))
    }

    /// Takes one; or says in how many milliseconds there will be one.
    fn take(&self, what: &[u8], now: i64) -> Result<(), i64> {
        let taken = self.with(what, |full, rate| {
            let wait = *full - now - (rate.at_once - 1) * rate.each;
            if wait > 0 {
                return Err(wait);
            }
            *full = now.max(*full) + rate.each;
            Ok(())
        });
        taken.unwrap_or(Ok(()))
    }

    fn give_back(&self, what: &[u8]) {
        self.with(what, |full, rate| *full -= rate.each);
    }
}

/// Whose budget a try is taken from.
#[derive(Debug, Clone)]
pub enum Tries {
    /// Nobody is known: the account's and the address's.
    Unknown { login: String, from: Option<IpAddr> },
    /// A browser that signed in to this account before.
    Known([u8; 32]),
    /// Somebody who is known by another credential, in how many ways ever.
    Own(Id),
}

/// The budgets of a server.
pub struct Budgets {
    began: Instant,
    accounts: Table,
    sources: Table,
    known: Table,
    own: Table,
}

impl Budgets {
    pub fn new() -> Budgets {
        Budgets {
            began: Instant::now(),
            accounts: Table::new(ACCOUNT),
            sources: Table::new(SOURCE),
            known: Table::new(ACCOUNT),
            own: Table::new(ACCOUNT),
        }
    }

    /// Takes one try; or says in how many seconds to come again.
    pub fn take(&self, tries: &Tries) -> Result<(), u64> {
        self.take_at(tries, self.now())
    }

    fn now(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX)
    }

    fn take_at(&self, tries: &Tries, now: i64) -> Result<(), u64> {
        let taken = match tries {
            Tries::Known(id) => self.known.take(id, now),
            Tries::Own(id) => self.own.take(id, now),
            Tries::Unknown { login, from } => {
                let source = from.map(source);
                let taken = source.as_ref().map_or(Ok(()), |source| self.sources.take(source, now));
                taken.and_then(|()| {
                    // Who is refused for the account's sake has still used the address's.
                    self.accounts.take(login.as_bytes(), now)
                })
            }
        };
        taken.map_err(|wait| u64::try_from(wait).unwrap_or(0).div_ceil(1000))
    }

    /// Gives back a try that was right.
    pub fn give_back(&self, tries: &Tries) {
        match tries {
            Tries::Known(id) => self.known.give_back(id),
            Tries::Own(id) => self.own.give_back(id),
            Tries::Unknown { login, from } => {
                self.accounts.give_back(login.as_bytes());
                if let Some(from) = from {
                    self.sources.give_back(&source(*from));
                }
            }
        }
    }
}

/// What one attacker has of addresses: one of IPv4, a network of 64 bits of IPv6 (RFC 6177).
fn source(address: IpAddr) -> Vec<u8> {
    match address.to_canonical() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().into_iter().take(8).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(login: &str, from: &str) -> Tries {
        Tries::Unknown { login: login.into(), from: Some(from.parse().unwrap()) }
    }

    /// The most that were let through in any minute of the first `minutes`, one try each 10 ms.
    fn most(tries: impl Fn(u64) -> Tries, minutes: i64) -> usize {
        let budgets = Budgets::new();
        let times: Vec<i64> = (0..minutes * 6_000)
            .map(|i| i * 10)
            .filter(|now| budgets.take_at(&tries(u64::try_from(*now).unwrap()), *now).is_ok())
            .collect();
        times.iter().map(|end| times.iter().filter(|t| **t <= *end && **t >= end - 60_000).count()).max().unwrap()
    }

    #[test]
    fn in_no_minute_more_than_fifteen_of_an_account() {
        // From as many addresses as tries, and each time another network.
        let spread = |i: u64| unknown("alice", &format!("2001:db8:{:x}:{:x}::1", i % 65_536, i / 65_536));
        assert_eq!(most(spread, 5), 15);
        assert_eq!(most(|_| Tries::Known([1; 32]), 5), 15);
        assert_eq!(most(|_| Tries::Own([1; 16]), 5), 15);
    }

    #[test]
    fn in_no_minute_more_than_sixty_of_an_address() {
        assert_eq!(most(|i| unknown(&format!("user{i}"), "192.0.2.1"), 5), 60);
        // A network of IPv6 is one source, and IPv4 in IPv6 is IPv4.
        assert_eq!(most(|i| unknown(&format!("user{i}"), &format!("2001:db8::{:x}", i % 65_536)), 3), 60);
        let two =
            |i: u64| unknown(&format!("user{i}"), if i.is_multiple_of(20) { "192.0.2.1" } else { "::ffff:192.0.2.1" });
        assert_eq!(most(two, 3), 60);
    }

    #[test]
    fn a_known_browser_has_a_budget_of_its_own() {
        let budgets = Budgets::new();
        while budgets.take_at(&unknown("alice", "192.0.2.1"), 0).is_ok() {}
        assert_eq!(budgets.take_at(&unknown("alice", "192.0.2.2"), 0), Err(6));
        assert_eq!(budgets.take_at(&Tries::Known([1; 32]), 0), Ok(()));
        assert_eq!(budgets.take_at(&unknown("bob", "192.0.2.2"), 0), Ok(()));
    }

    #[test]
    fn what_was_right_costs_nothing() {
        let budgets = Budgets::new();
        for _ in 0..1_000 {
            assert_eq!(budgets.take_at(&unknown("alice", "192.0.2.1"), 0), Ok(()));
            budgets.give_back(&unknown("alice", "192.0.2.1"));
        }
    }

    #[test]
    fn a_flood_of_logins_and_addresses_takes_no_memory_and_little_of_others() {
        let budgets = Budgets::new();
        for i in 0..200_000_u32 {
            // No faster than hashes are computed: one in 20 ms.
            let from = format!("10.{}.{}.{}", i >> 16, (i >> 8) & 255, i & 255);
            let _ = budgets.take_at(&unknown(&format!("user{i}"), &from), i64::from(i) * 20);
        }
        for table in [&budgets.accounts, &budgets.sources, &budgets.known, &budgets.own] {
            assert_eq!(table.cells.lock().unwrap().len(), CELLS);
        }
        let now = 200_000 * 20;
        let refused = (0..1_000).filter(|i| {
            budgets.take_at(&unknown(&format!("owner{i}"), &format!("172.16.{}.{}", i >> 8, i & 255)), now).is_err()
        });
        assert!(refused.count() <= 5);
    }
}
