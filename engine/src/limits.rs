//! Checks of sizes that come from outside. Each domain declares its own maxima.

use thiserror::Error;

/// Something in a request is larger than allowed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("{what} has {found} {unit}, at most {maximum} are allowed")]
pub struct Exceeded {
    what: &'static str,
    unit: &'static str,
    found: usize,
    maximum: usize,
}

/// Checks the length of a text or blob.
///
/// # Errors
/// When it is longer than `maximum` bytes.
pub fn check_bytes(what: &'static str, found: usize, maximum: usize) -> Result<(), Exceeded> {
    check(what, "bytes", found, maximum)
}

/// Checks the length of a list.
///
/// # Errors
/// When it is longer than `maximum` elements.
pub fn check_elements(what: &'static str, found: usize, maximum: usize) -> Result<(), Exceeded> {
    check(what, "elements", found, maximum)
}

fn check(what: &'static str, unit: &'static str, found: usize, maximum: usize) -> Result<(), Exceeded> {
    if found <= maximum { Ok(()) } else { Err(Exceeded { what, unit, found, maximum }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maximum_itself_is_allowed() {
        assert_eq!(check_bytes("token", 8, 8), Ok(()));
        let text = |result: Result<(), Exceeded>| result.unwrap_err().to_string();
        assert_eq!(text(check_bytes("token", 9, 8)), "token has 9 bytes, at most 8 are allowed");
        assert_eq!(text(check_elements("root_cas", 3, 2)), "root_cas has 3 elements, at most 2 are allowed");
    }
}
