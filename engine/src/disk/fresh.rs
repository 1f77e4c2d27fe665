//! Writing pages of which nothing has to be kept.

use std::io;

use parking_lot::Mutex;

/// What the kernel reads and writes at a time. Where it is another size this is slower, and nothing else.
const PAGE_BYTES: u64 = 4096;

/// What is written around a part of a page; less than a page on each side.
static ZEROS: [u8; PAGE_BYTES as usize] = [0; PAGE_BYTES as usize];

/// What is written in the place of some bytes, one behind the other: zeros, the bytes, zeros. They are not copied into one
/// piece: a batch of the log is large, and new memory for each would cost more than writing it.
pub(super) type Pieces<'a> = [&'a [u8]; 3];

/// Which pages of a file are fresh. All writes to the file go through it.
pub(super) struct Fresh {
    /// Locked while something is written: whoever else writes into the same page must not come in between.
    pages: Mutex<Option<FreshPages>>,
}

impl Fresh {
    /// There may be something that matters in each page.
    pub(super) fn none() -> Self {
        Self { pages: Mutex::new(None) }
    }

    /// There is nothing but zeros in a file of this size.
    pub(super) fn all(bytes: u64) -> Self {
        Self { pages: Mutex::new(Some(FreshPages::of(bytes))) }
    }

    /// Nothing in the file, which has this size, matters any more.
    pub(super) fn discard(&self, bytes: u64) {
        *self.pages.lock() = Some(FreshPages::of(bytes));
    }

    /// Writes by `write` what is to be written in the place of `bytes` at `offset`.
    pub(super) fn write(
        &self,
        bytes: &[u8],
        offset: u64,
        write: impl FnOnce(Pieces<'_>, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut pages = self.pages.lock();
        let (before, behind) = pages.as_mut().map_or((0, 0), |pages| pages.around(bytes.len(), offset));
        write([&ZEROS[..before], bytes, &ZEROS[..behind]], offset - before as u64)
    }
}

/// The pages of a file that were not written since there is nothing in them that matters.
///
/// Before a part of a page is written the kernel reads the page, unless it has it in memory, which takes as long as a sync. A
/// page in which nothing matters is written whole instead, with zeros around the part.
struct FreshPages {
    /// Size of the file.
    bytes: u64,
    /// A bit for each page.
    written: Vec<u64>,
}

impl FreshPages {
    /// All pages of a file of this size.
    fn of(bytes: u64) -> Self {
        let words = bytes.div_ceil(PAGE_BYTES).div_ceil(u64::from(u64::BITS));
        // A file whose bits do not fit into memory has no page that is fresh.
        Self { bytes, written: vec![0; usize::try_from(words).unwrap_or(0)] }
    }

    /// How many zeros to write before and behind so many bytes at `offset`, less than a page each. Their pages are not fresh
    /// any more.
    fn around(&mut self, bytes: usize, offset: u64) -> (usize, usize) {
        let end = offset + bytes as u64;
        if bytes == 0 {
            return (0, 0);
        }
        let (first, last) = (offset / PAGE_BYTES, (end - 1) / PAGE_BYTES);
        let from = if self.is_fresh(first) { first * PAGE_BYTES } else { offset };
        let to = if self.is_fresh(last) { ((last + 1) * PAGE_BYTES).min(self.bytes).max(end) } else { end };
        (first..=last).for_each(|page| self.note(page));
        ((offset - from) as usize, (to - end) as usize)
    }

    fn is_fresh(&self, page: u64) -> bool {
        let (word, bit) = place(page);
        page * PAGE_BYTES < self.bytes && self.written.get(word).is_some_and(|word| word & bit == 0)
    }

    fn note(&mut self, page: u64) {
        let (word, bit) = place(page);
        if let Some(word) = self.written.get_mut(word) {
            *word |= bit;
        }
    }
}

/// The word of a page, and its bit in it.
fn place(page: u64) -> (usize, u64) {
    let word = usize::try_from(page / u64::from(u64::BITS)).unwrap_or(usize::MAX);
    (word, 1 << (page % u64::from(u64::BITS)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(fresh: &Fresh, bytes: &[u8], offset: u64) -> (Vec<u8>, u64) {
        let mut written = None;
        let write = |pieces: Pieces<'_>, offset| {
            written = Some((pieces.concat(), offset));
            Ok(())
        };
        fresh.write(bytes, offset, write).unwrap();
        written.unwrap()
    }

    #[test]
    fn the_first_write_to_a_page_writes_all_of_it() {
        let fresh = Fresh::all(3 * PAGE_BYTES + 10);
        let (first, offset) = written(&fresh, b"one", 10);
        assert_eq!((first.len(), offset), (4096, 0));
        assert_eq!((&first[..10], &first[10..13], &first[13..]), (&[0; 10][..], &b"one"[..], &[0; 4083][..]));
        // What is there already is kept.
        assert_eq!(written(&fresh, b"two", 13), (b"two".to_vec(), 13));
        // From one page, which is not fresh, into the next one, which is.
        let (third, offset) = written(&fresh, &[3; 100], PAGE_BYTES - 50);
        assert_eq!((third.len(), offset), (50 + 4096, PAGE_BYTES - 50));
        assert_eq!((&third[..100], &third[100..]), (&[3; 100][..], &[0; 4046][..]));
        // The last page is no longer than the file, and what lies behind the file is nobody's.
        assert_eq!(written(&fresh, b"four", 3 * PAGE_BYTES), (b"four\0\0\0\0\0\0".to_vec(), 3 * PAGE_BYTES));
        assert_eq!(written(&fresh, b"five", 9 * PAGE_BYTES + 1), (b"five".to_vec(), 9 * PAGE_BYTES + 1));
        assert_eq!(written(&fresh, b"", 2 * PAGE_BYTES + 5), (Vec::new(), 2 * PAGE_BYTES + 5));
        assert!(fresh.pages.lock().as_ref().unwrap().is_fresh(2), "nothing was written there");
    }
}
