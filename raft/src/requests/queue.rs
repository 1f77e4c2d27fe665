//! A queue that lies in pieces: one more item never makes it move all that it holds.

use std::collections::VecDeque;

/// Items of a piece.
const PIECE: usize = 4096;

/// Items in the order in which they came.
#[derive(Debug)]
pub(super) struct Queue<T> {
    /// All full but the last one.
    pieces: VecDeque<Vec<T>>,
    /// Items of the first piece that are gone.
    gone: usize,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self { pieces: VecDeque::new(), gone: 0 }
    }
}

impl<T: Copy> Queue<T> {
    pub(super) fn len(&self) -> usize {
        let full = self.pieces.len().saturating_sub(1) * PIECE;
        full + self.pieces.back().map_or(0, Vec::len) - self.gone
    }

    /// The item behind so many others.
    pub(super) fn get(&self, place: usize) -> Option<&T> {
        let place = place.checked_add(self.gone)?;
        self.pieces.get(place / PIECE)?.get(place % PIECE)
    }

    pub(super) fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        let place = place.checked_add(self.gone)?;
        self.pieces.get_mut(place / PIECE)?.get_mut(place % PIECE)
    }

    pub(super) fn push_back(&mut self, item: T) {
        match self.pieces.back_mut() {
            Some(last) if last.len() < PIECE => last.push(item),
            // The first piece grows with what is in it; whoever fills one is likely to fill the next.
            Some(_) => {
                let mut piece = Vec::with_capacity(PIECE);
                piece.push(item);
                self.pieces.push_back(piece);
            }
            None => self.pieces.push_back(vec![item]),
        }
    }

    pub(super) fn pop_front(&mut self) -> Option<T> {
        let item = *self.get(0)?;
        self.gone += 1;
        if self.pieces.front().is_some_and(|first| first.len() == self.gone) {
            self.pieces.pop_front();
            self.gone = 0;
        }
        Some(item)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_holds_what_an_ordinary_queue_holds() {
        let (mut queue, mut model, mut next) = (Queue::default(), VecDeque::new(), 0);
        // More come than go at first, and then the other way round; emptied over and over in the end.
        for (coming, going, times) in [(3, 1, 3 * PIECE), (1, 2, 5 * PIECE), (2, 2, PIECE), (5, 7, 2 * PIECE)] {
            for _ in 0..times {
                for _ in 0..coming {
                    queue.push_back(next);
                    model.push_back(next);
                    next += 1;
                }
                for _ in 0..going {
                    assert_eq!(queue.pop_front(), model.pop_front());
                }
                assert_eq!(queue.len(), model.len());
                for place in [0, model.len() / 2, model.len().saturating_sub(1), model.len(), usize::MAX] {
                    assert_eq!(queue.get(place), model.get(place));
                    assert_eq!(queue.get_mut(place), model.get_mut(place));
                }
            }
        }
        assert_eq!((queue.len(), queue.pieces.len()), (0, 0), "memory of items that are gone is kept");
    }
}
