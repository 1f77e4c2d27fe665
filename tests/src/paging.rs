//! Reading a list page by page, as SPIRE does.

use steeple_client::Error;

/// All pages of a list.
#[derive(Debug)]
pub struct Pages<T> {
    /// The records of all pages.
    pub records: Vec<T>,
    /// The tokens sent.
    pub tokens: Vec<String>,
    /// Records of each page; the last one has none.
    pub sizes: Vec<usize>,
}

/// Follows the tokens from the beginning to the empty page, and checks what holds for every page: an empty token goes
/// with an empty page and with no other, and none is larger than asked.
///
/// # Panics
/// When a page is not as it has to be.
pub async fn all_pages<T>(size: i32, fetch: impl AsyncFn(&str) -> Result<(Vec<T>, String), Error>) -> Pages<T> {
    let mut pages = Pages { records: Vec::new(), tokens: Vec::new(), sizes: Vec::new() };
    let mut token = String::new();
    loop {
        let (records, next) = fetch(&token).await.expect("a page");
        assert_eq!(
            records.is_empty(),
            next.is_empty(),
            "{} records behind {token:?} with token {next:?}",
            records.len()
        );
        assert!(records.len() <= usize::try_from(size).expect("a positive size"), "page of {}", records.len());
        pages.tokens.push(token);
        pages.sizes.push(records.len());
        if records.is_empty() {
            return pages;
        }
        pages.records.extend(records);
        token = next;
    }
}

/// The tokens that reading by `size` sends when the records at these positions (from 1) are the result, of a collection
/// whose numbers begin with 1.
#[must_use]
pub fn tokens(positions: &[usize], size: usize) -> Vec<String> {
    let ends = positions.chunks(size).filter_map(|page| page.last()).map(ToString::to_string);
    std::iter::once(String::new()).chain(ends).collect()
}
