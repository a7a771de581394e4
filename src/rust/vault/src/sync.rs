//! Locks between threads.
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Waits for a lock. What our locks guard is whole at every step, so a panic of another holder is no reason to refuse.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
