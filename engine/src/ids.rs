//! Positions, identities and times, each with a type of its own so that none is taken for another.

use std::fmt;

/// Declares a `u64` newtype that orders and prints like the number it holds.
macro_rules! number {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash,
            rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
        )]
        #[rkyv(compare(PartialEq), derive(Debug))]
        pub struct $name(pub u64);

        impl $name {
            /// The position before the first one; never assigned to anything.
            pub const ZERO: Self = Self(0);

            /// The number that follows this one.
            ///
            /// # Panics
            /// On overflow, which at a million a second is half a million years away.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }

            /// The plain number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }

        impl From<u64> for $name {
            fn from(number: u64) -> Self {
                Self(number)
            }
        }
    };
}

number!(
    /// One Raft group: one log, one set of views.
    GroupId
);
number!(
    /// One independent data set with sequences and streams of its own. 0 is the system's own.
    NamespaceId
);
number!(
    /// Number of a record in its table, in creation order: 1, 2, 3, ...; never used twice.
    Sequence
);
number!(
    /// Number of an item in a stream, in commit order: 1, 2, 3, ... without holes.
    StreamSequence
);
number!(
    /// Gap-free counter of a group's events.
    Revision
);
number!(
    /// A Raft term.
    Term
);
number!(
    /// Place of an entry in a group's log; the first entry has index 1.
    LogIndex
);
number!(
    /// Microseconds since the Unix epoch, as assigned by the leader that decided the event.
    Timestamp
);
number!(
    /// A member of a group.
    NodeId
);

impl NamespaceId {
    /// The namespace that holds the list of namespaces and nothing of any user.
    pub const SYSTEM: Self = Self(0);
}

impl Timestamp {
    /// The instant `seconds` whole seconds after the Unix epoch; instants before it become the epoch.
    #[must_use]
    pub fn from_seconds(seconds: i64) -> Self {
        Self(u64::try_from(seconds).unwrap_or(0).saturating_mul(1_000_000))
    }

    /// Whole seconds since the Unix epoch, the sub-second part dropped.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        (self.0 / 1_000_000).cast_signed()
    }
}

/// Where an entry stands in the log, with the term it was appended in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPosition {
    /// Term of the leader that appended it.
    pub term: Term,
    /// Its place.
    pub index: LogIndex,
}

impl fmt::Display for LogPosition {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.index, self.term)
    }
}

/// Declares a `u16` newtype for numbers that are assigned in code and stored on disk.
macro_rules! code {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash,
            rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
        )]
        #[rkyv(derive(Debug))]
        pub struct $name(pub u16);

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(formatter)
            }
        }
    };
}

code!(
    /// A table. Numbers are part of the disk format and are never reused.
    TableId
);
code!(
    /// An index of a table. Lives in memory only, so numbers may change between versions.
    IndexId
);
code!(
    /// A stream of a namespace. Numbers are part of the disk format and are never reused.
    StreamId
);

/// Declares a 128-bit identity that prints as 32 hexadecimal digits.
macro_rules! identity {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(
            Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash,
            rkyv::Archive, rkyv::Serialize, rkyv::Deserialize,
        )]
        pub struct $name(pub [u8; 16]);

        impl $name {
            /// The identity written as 32 hexadecimal digits, or `None` for any other text.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> {
                if text.len() != 32 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                    return None;
                }
                u128::from_str_radix(text, 16).ok().map(|number| Self(number.to_be_bytes()))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, formatter)
            }
        }
    };
}

identity!(
    /// Chosen by a client for one mutation, so that repeating it is safe.
    RequestId
);

impl RequestId {
    /// The id of one of the steps that a request takes when each of them is remembered. The first has the request's own.
    #[must_use]
    pub fn of_step(self, step: u64) -> Self {
        if step == 0 {
            return self;
        }
        let mut bytes = self.0.to_vec();
        bytes.extend(step.to_be_bytes());
        Self(xxhash_rust::xxh3::xxh3_128(&bytes).to_be_bytes())
    }
}

identity!(
    /// One unbroken line of revisions. Restoring a backup starts a new one.
    HistoryId
);
identity!(
    /// A cluster, chosen when it is first started.
    ClusterId
);
