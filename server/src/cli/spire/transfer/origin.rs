//! Where the records of an import come from.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::Value;
#[cfg(feature = "sql")]
use serde_json::json;
use steeple_client::types::imported_record::Record;

use super::lines::{FORMAT, LINE_BYTES_MAX, Line, VERSION, record};
use crate::cli::exit::CommandError;

/// What `--from` names.
#[derive(Clone, Debug)]
pub(super) enum Place {
    /// A database of a SPIRE server.
    #[cfg(feature = "sql")]
    Database(steeple_sql::Location),
    /// An export.
    Lines(PathBuf),
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("jsonl:") {
            return match path {
                "" => Err("jsonl: needs the name of a file".into()),
                "-" => Err("an import reads its file more than once, so it cannot come from standard input".into()),
                path => Ok(Self::Lines(path.into())),
            };
        }
        #[cfg(feature = "sql")]
        return text.parse().map(Self::Database).map_err(|error: steeple_sql::Error| match text.split_once(':') {
            Some(("sqlite" | "sqlite3" | "postgres" | "postgresql" | "mysql" | "mariadb", _)) => error.to_string(),
            _ => format!("{error}, or jsonl:FILE"),
        });
        #[cfg(not(feature = "sql"))]
        Err("this program was built without SQL databases; write jsonl:FILE".into())
    }
}

/// What there is.
#[cfg_attr(not(feature = "sql"), expect(dead_code, reason = "only databases hold what is no record"))]
pub(super) enum Found {
    /// A record to take over.
    Record(Record),
    /// Something that is no record.
    Unreadable {
        /// What it is.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Rows that belong to nothing.
    Orphans {
        /// Their table.
        table: String,
        /// How many there are.
        rows: u64,
    },
}

/// Where records come from, opened. What it hands over is the same each time.
pub(super) enum Origin {
    #[cfg(feature = "sql")]
    Database(Box<steeple_sql::Source>),
    Lines(PathBuf),
}

#[cfg(feature = "sql")]
impl From<steeple_sql::Error> for CommandError {
    fn from(error: steeple_sql::Error) -> Self {
        match error {
            steeple_sql::Error::Location(text) => Self::Usage(text),
            error @ steeple_sql::Error::NoFile(_) => Self::NotFound(error.to_string()),
            error => Self::Failed(error.to_string()),
        }
    }
}

impl Origin {
    /// Opens it. `offset_seconds` is that of times which do not say it themselves.
    pub(super) async fn open(from: &Place, offset_seconds: i32) -> Result<Self, CommandError> {
        match from {
            #[cfg(feature = "sql")]
            Place::Database(location) => {
                let zone = steeple_sql::ZoneOffset(offset_seconds);
                Ok(Self::Database(Box::new(steeple_sql::Source::open(location, zone).await?)))
            }
            Place::Lines(path) => {
                let _ = offset_seconds;
                open(path).map(|_| Self::Lines(path.clone()))
            }
        }
    }

    /// What it is, without a password.
    pub(super) fn describe(&self) -> String {
        match self {
            #[cfg(feature = "sql")]
            Self::Database(source) => source.origin().to_owned(),
            Self::Lines(path) => format!("export {}", path.display()),
        }
    }

    /// What it says of itself.
    pub(super) async fn facts(&mut self) -> Result<(Value, Vec<(&'static str, String)>), CommandError> {
        match self {
            #[cfg(feature = "sql")]
            Self::Database(source) => {
                let counts = source.counts().await?;
                let rows: serde_json::Map<_, _> =
                    counts.iter().map(|count| (count.table.to_owned(), count.rows.into())).collect();
                let events = counts.iter().filter(|count| count.table.ends_with("_events")).map(|count| count.rows);
                let fields = vec![
                    ("schema", source.schema_version().to_string()),
                    ("written by", source.code_version().to_owned()),
                    ("events, stay behind", events.sum::<u64>().to_string()),
                ];
                let document = json!({
                    "schema_version": source.schema_version(),
                    "code_version": source.code_version(),
                    "rows": rows,
                });
                Ok((document, fields))
            }
            Self::Lines(path) => {
                let (header, _) = open(path)?;
                let fields = vec![
                    ("exported from", header.namespace.clone()),
                    ("exported at", header.exported_at.clone()),
                    ("join tokens", if header.join_tokens { "included".into() } else { "left out".into() }),
                ];
                let document = serde_json::to_value(&header).unwrap_or(Value::Null);
                Ok((document, fields))
            }
        }
    }

    /// Hands all of it over.
    pub(super) async fn read(
        &mut self,
        mut take: impl AsyncFnMut(Found) -> Result<(), CommandError>,
    ) -> Result<(), CommandError> {
        match self {
            #[cfg(feature = "sql")]
            Self::Database(source) => {
                source
                    .read(async |found| match found {
                        steeple_sql::Found::Record(record) => match record.record {
                            Some(record) => take(Found::Record(record)).await,
                            None => Ok(()),
                        },
                        steeple_sql::Found::Unreadable { what, reason } => {
                            take(Found::Unreadable { what, reason }).await
                        }
                        steeple_sql::Found::Orphans { table, rows } => {
                            take(Found::Orphans { table: table.to_owned(), rows }).await
                        }
                    })
                    .await
            }
            Self::Lines(path) => {
                let (_, mut lines) = open(path)?;
                while let Some(record) = lines.next_record()? {
                    take(Found::Record(record)).await?;
                }
                Ok(())
            }
        }
    }

    /// Takes leave.
    pub(super) async fn close(self) {
        match self {
            #[cfg(feature = "sql")]
            Self::Database(source) => source.close().await,
            Self::Lines(_) => {}
        }
    }
}

/// The lines of an export behind the first one.
struct Lines {
    path: PathBuf,
    input: BufReader<File>,
    /// Of the line that was read last.
    number: u64,
    records: u64,
    buffer: Vec<u8>,
}

/// Opens an export and reads its first line.
fn open(path: &Path) -> Result<(super::lines::Header, Lines), CommandError> {
    let file = File::open(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => CommandError::NotFound(format!("there is no file {}", path.display())),
        _ => CommandError::File { action: "open", path: path.display().to_string(), source },
    })?;
    let input = BufReader::with_capacity(1 << 20, file);
    let mut lines = Lines { path: path.to_owned(), input, number: 0, records: 0, buffer: Vec::new() };
    let header = match lines.next_line() {
        Ok(Some(Line::Export(header))) if header.format == FORMAT => header,
        Ok(_) => return Err(lines.wrong("this is no export of a namespace")),
        Err(error) => return Err(error),
    };
    if header.version > VERSION {
        let version = header.version;
        return Err(lines.wrong(&format!("the export has version {version}, this program reads up to {VERSION}")));
    }
    Ok((header, lines))
}

impl Lines {
    /// The record of the next line; `None` behind the last one, which has to be there.
    fn next_record(&mut self) -> Result<Option<Record>, CommandError> {
        match self.next_line()? {
            Some(Line::End(end)) if end.records != self.records => {
                Err(self
                    .wrong(&format!("the export says that it has {} records, and has {}", end.records, self.records)))
            }
            Some(Line::End(_)) => match self.next_line()? {
                Some(_) => Err(self.wrong("there is more behind the end")),
                None => Ok(None),
            },
            Some(line) => match record(line) {
                Some(record) => {
                    self.records += 1;
                    Ok(Some(record))
                }
                None => Err(self.wrong("a second export begins")),
            },
            None => Err(self.wrong("the export ends without its last line: it was cut")),
        }
    }

    /// The next line that is not empty.
    fn next_line(&mut self) -> Result<Option<Line>, CommandError> {
        loop {
            self.buffer.clear();
            self.number += 1;
            let limit = LINE_BYTES_MAX as u64 + 1;
            let read = (&mut self.input).take(limit).read_until(b'\n', &mut self.buffer);
            let read = read.map_err(|source| CommandError::File {
                action: "read",
                path: self.path.display().to_string(),
                source,
            })?;
            if read == 0 {
                return Ok(None);
            }
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(self.wrong(&format!("the line is longer than {LINE_BYTES_MAX} bytes")));
            }
            if self.buffer.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let line = serde_json::from_slice(&self.buffer);
            return line.map(Some).map_err(|error| self.wrong(&malformed(&error)));
        }
    }

    fn wrong(&self, what: &str) -> CommandError {
        CommandError::Failed(format!("{}, line {}: {what}", self.path.display(), self.number))
    }
}

/// What is wrong with a line, with the place in it but without the number that it has for itself.
fn malformed(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = r#"{"export":{"format":"steeple-spire-export","version":1}}"#;

    fn read(text: &str) -> Result<usize, String> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("export.jsonl");
        std::fs::write(&path, text).unwrap();
        let (_, mut lines) = open(&path).map_err(|error| error.to_string())?;
        let mut records = 0;
        while lines.next_record().map_err(|error| error.to_string())?.is_some() {
            records += 1;
        }
        Ok(records)
    }

    #[test]
    fn a_whole_export_is_read() {
        let token = r#"{"join_token":{"token":"t","expires_at":1}}"#;
        assert_eq!(read(&format!("{FIRST}\n{token}\n\n{token}\n{{\"end\":{{\"records\":2}}}}\n")), Ok(2));
        assert_eq!(read(&format!("{FIRST}\n{{\"end\":{{\"records\":0}}}}")), Ok(0));
    }

    #[test]
    fn anything_else_is_refused_with_its_line() {
        for (text, line, part) in [
            (String::new(), 1, "no export"),
            ("{}".into(), 1, "expected value"),
            (r#"{"end":{"records":0}}"#.into(), 1, "no export"),
            (r#"{"export":{"format":"other","version":1}}"#.into(), 1, "no export"),
            (r#"{"export":{"format":"steeple-spire-export","version":2}}"#.into(), 1, "up to 1"),
            (FIRST.into(), 2, "it was cut"),
            (format!("{FIRST}\n{{\"bundle\":{{}}"), 2, "EOF"),
            (format!("{FIRST}\n{{\"bundle\":{{\"colour\":1}}}}"), 2, "colour"),
            (format!("{FIRST}\n{FIRST}"), 2, "second export"),
            (format!("{FIRST}\n{{\"end\":{{\"records\":1}}}}"), 2, "has 0"),
            (format!("{FIRST}\n{{\"end\":{{\"records\":0}}}}\n{FIRST}"), 3, "more behind"),
            (format!("{FIRST}\n\u{0}"), 2, "expected value"),
        ] {
            let error = read(&text).expect_err(&text);
            assert!(error.contains(part) || part == "expected value", "{error}");
            assert!(error.contains(&format!("line {line}: ")), "{text}: {error}");
        }
    }

    #[test]
    fn only_what_can_be_read_can_be_named() {
        assert!(matches!("jsonl:x".parse(), Ok(Place::Lines(path)) if path == Path::new("x")));
        for text in ["jsonl:", "jsonl:-", "x.jsonl", ""] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }

    #[test]
    fn lines_have_a_limit() {
        let long = format!("{FIRST}\n{{\"bundle\":\"{}\"}}", "x".repeat(LINE_BYTES_MAX));
        assert!(read(&long).unwrap_err().contains("longer than"));
    }
}
