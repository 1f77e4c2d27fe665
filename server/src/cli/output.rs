//! Printing: tables for people, JSON for programs.

use std::io::Write as _;

use clap::ValueEnum;
use comfy_table::{Table, presets};
use serde_json::Value;

use super::exit::CommandError;

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// Tables and sentences for people
    #[default]
    Table,
    /// JSON: one document, or one a line for what goes on and on
    Json,
}

/// Writes a text and a line end to standard output, in one piece.
pub(super) fn print_line(text: &str) -> Result<(), CommandError> {
    let mut output = std::io::stdout().lock();
    output.write_all(format!("{text}\n").as_bytes()).and_then(|()| output.flush()).map_err(CommandError::Print)
}

/// Writes a JSON document over several lines.
pub(super) fn print_json(document: &Value) -> Result<(), CommandError> {
    print_line(&format!("{document:#}"))
}

impl Output {
    /// Prints either a JSON document or a sentence.
    pub(super) fn say(self, document: &Value, sentence: &str) -> Result<(), CommandError> {
        match self {
            Self::Table => print_line(sentence),
            Self::Json => print_json(document),
        }
    }

    /// Prints records: as a document with all of them under `name`, or as a table with a count below.
    pub(super) fn list(self, name: &str, columns: &[&str], rows: Vec<Row>) -> Result<(), CommandError> {
        match self {
            Self::Json => {
                let records = rows.into_iter().map(|row| row.json).collect();
                print_json(&Value::Object([(name.to_owned(), Value::Array(records))].into_iter().collect()))
            }
            Self::Table => {
                let count = rows.len();
                if count > 0 {
                    print_line(&table(columns, rows.into_iter().map(|row| row.cells)))?;
                }
                print_line(&format!("{count} {name}"))
            }
        }
    }

    /// Prints one record: as a document, or as lines of names and values without those that have none.
    pub(super) fn record(self, document: &Value, fields: &[(&str, String)]) -> Result<(), CommandError> {
        match self {
            Self::Json => print_json(document),
            Self::Table => print_line(&lines(fields)),
        }
    }
}

/// One record to print.
pub(super) struct Row {
    /// For tables.
    pub(super) cells: Vec<String>,
    /// For programs.
    pub(super) json: Value,
}

/// A table without frames, so that it can be cut and sorted.
pub(super) fn table(columns: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(columns.iter().map(|column| column.to_uppercase()));
    for row in rows {
        table.add_row(row.into_iter().map(|cell| printable(&cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}

/// Names and values, one a line.
pub(super) fn lines(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    let present = fields.iter().filter(|(_, value)| !value.is_empty());
    present.map(|(name, value)| format!("{name:width$}  {}", printable(value))).collect::<Vec<_>>().join("\n")
}

/// The text without characters that would move a terminal's cursor or worse: records hold what others chose.
pub(super) fn printable(text: &str) -> String {
    let escape = |character: char| {
        if character.is_control() { character.escape_default().to_string() } else { character.to_string() }
    };
    text.chars().map(escape).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_have_a_line_for_each_record() {
        let rows = [vec!["a".to_owned(), "long value".to_owned()], vec!["bb".to_owned(), String::new()]];
        let text = table(&["id", "value"], rows.into_iter());
        assert_eq!(text, "ID  VALUE\na   long value\nbb");
    }

    #[test]
    fn fields_without_value_are_left_out() {
        let text = lines(&[("id", "x".into()), ("hint", String::new()), ("parent", "y".into())]);
        assert_eq!(text, "id      x\nparent  y");
    }

    #[test]
    fn control_characters_are_shown_and_not_obeyed() {
        assert_eq!(printable("a\u{1b}[2J\nb"), "a\\u{1b}[2J\\nb");
    }
}
