//! Calls into an engine that may panic, and what a store does once one of them went wrong.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use super::RecordStoreError;

/// Remembers the first failure of a store, after which nothing it says counts any more.
#[derive(Debug, Default)]
pub(crate) struct Poison {
    first_failure: OnceLock<String>,
}

impl Poison {
    /// Whether the store can still be used.
    pub(crate) fn check(&self) -> Result<(), RecordStoreError> {
        match self.first_failure.get() {
            None => Ok(()),
            Some(detail) => Err(RecordStoreError::Poisoned { detail: detail.clone() }),
        }
    }

    /// Makes every later call fail; only the first reason is kept.
    pub(crate) fn set(&self, error: &RecordStoreError) {
        // A second failure adds nothing: the first one is the cause.
        let _ = self.first_failure.set(error.to_string());
    }

    /// Whether something failed before.
    pub(crate) fn is_set(&self) -> bool {
        self.first_failure.get().is_some()
    }

    /// Runs `call` unless the store is poisoned, and poisons it if the call fails or panics.
    pub(crate) fn guard<T, E: std::fmt::Display>(
        &self,
        action: &'static str,
        call: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, RecordStoreError> {
        self.check()?;
        catch(action, call).inspect_err(|error| self.set(error))
    }
}

/// Runs `call`, which may fail or panic, and turns both into an error.
///
/// What a panicking call leaves half done is never looked at again: the caller poisons or drops the store.
pub(crate) fn catch<T, E: std::fmt::Display>(
    action: &'static str,
    call: impl FnOnce() -> Result<T, E>,
) -> Result<T, RecordStoreError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(RecordStoreError::Failed { action, detail: error.to_string() }),
        Err(panic) => Err(RecordStoreError::Failed { action, detail: format!("panic: {}", message_of(&*panic)) }),
    }
}

/// The text a panic was raised with.
fn message_of(panic: &(dyn std::any::Any + Send)) -> &str {
    panic
        .downcast_ref::<&'static str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_failure_sticks() {
        let poison = Poison::default();
        assert!(poison.guard("read", || Ok::<_, String>(1)).is_ok());
        assert!(matches!(
            poison.guard("read", || Err::<(), _>("no disk")),
            Err(RecordStoreError::Failed { action: "read", .. })
        ));
        let later = poison.guard("write", || Ok::<_, String>(())).unwrap_err();
        assert!(later.to_string().contains("no disk"), "{later}");
    }

    #[test]
    fn panic_becomes_an_error() {
        let poison = Poison::default();
        let count = 3;
        let error = poison.guard("read", || -> Result<(), String> { panic!("leaf {count} is gone") }).unwrap_err();
        assert!(error.to_string().contains("leaf 3 is gone"), "{error}");
        assert!(poison.is_set());
    }
}
