//! The part of HCL that the plugin's block is written in: keys with texts, numbers, truth values, and lists of texts.

use std::fmt;

/// A value of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(String),
    /// A number or truth value, as it is written.
    Word(String),
    List(Vec<Value>),
}

/// Why a text is no configuration, and where.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    line: usize,
    reason: &'static str,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "configuration, line {}: {}", self.line, self.reason)
    }
}

/// The longest text that is read; a block has a few lines.
const BYTES_MAX: usize = 1 << 20;

/// Lists in lists, at the most.
const DEPTH_MAX: usize = 4;

/// Reads keys and values in the order in which they are written.
pub(crate) fn parse(text: &str) -> Result<Vec<(String, Value)>, Fault> {
    if text.len() > BYTES_MAX {
        return Err(Fault { line: 1, reason: "it is longer than 1 MiB" });
    }
    let mut reader = Reader { rest: text, line: 1 };
    let mut pairs = Vec::new();
    loop {
        reader.skip_blank()?;
        if reader.rest.is_empty() {
            return Ok(pairs);
        }
        let key = match reader.peek() {
            Some('"') => reader.quoted()?,
            _ => reader.word("a key is expected")?,
        };
        reader.skip_blank()?;
        if !reader.take('=') {
            return Err(reader.fault("`=` is expected behind a key; blocks are not known here"));
        }
        pairs.push((key, reader.value(0)?));
    }
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl Reader<'_> {
    fn fault(&self, reason: &'static str) -> Fault {
        Fault { line: self.line, reason }
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut characters = self.rest.chars();
        let next = characters.next()?;
        self.rest = characters.as_str();
        self.line += usize::from(next == '\n');
        Some(next)
    }

    fn take(&mut self, expected: char) -> bool {
        let found = self.peek() == Some(expected);
        if found {
            self.next();
        }
        found
    }

    /// Passes over white space and comments.
    fn skip_blank(&mut self) -> Result<(), Fault> {
        loop {
            if self.rest.starts_with("//") || self.rest.starts_with('#') {
                while self.peek().is_some_and(|character| character != '\n') {
                    self.next();
                }
            } else if self.rest.starts_with("/*") {
                let begun = self.fault("a comment has no end");
                while !self.rest.starts_with("*/") {
                    if self.next().is_none() {
                        return Err(begun);
                    }
                }
                self.next();
                self.next();
            } else if self.peek().is_some_and(char::is_whitespace) {
                self.next();
            } else {
                return Ok(());
            }
        }
    }

    fn word(&mut self, expectation: &'static str) -> Result<String, Fault> {
        let is_part = |character: char| character.is_alphanumeric() || "_-.+".contains(character);
        let end = self.rest.find(|character| !is_part(character)).unwrap_or(self.rest.len());
        if end == 0 {
            return Err(self.fault(expectation));
        }
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        Ok(word.to_owned())
    }

    fn value(&mut self, depth: usize) -> Result<Value, Fault> {
        self.skip_blank()?;
        match self.peek() {
            Some('"') => self.quoted().map(Value::Text),
            Some('[') => self.list(depth),
            Some('<') => Err(self.fault("texts over several lines are not known here; write \"...\"")),
            Some('{') => Err(self.fault("blocks are not known here")),
            _ => self.word("a value is expected").map(Value::Word),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Value, Fault> {
        if depth >= DEPTH_MAX {
            return Err(self.fault("lists are too deep in each other"));
        }
        self.next();
        let mut values = Vec::new();
        loop {
            self.skip_blank()?;
            if self.take(']') {
                return Ok(Value::List(values));
            }
            values.push(self.value(depth + 1)?);
            self.skip_blank()?;
            if !self.take(',') && self.peek() != Some(']') {
                return Err(self.fault("`,` or `]` is expected in a list"));
            }
        }
    }

    fn quoted(&mut self) -> Result<String, Fault> {
        let begun = self.fault("a text has no end");
        self.next();
        let mut text = String::new();
        loop {
            match self.next() {
                Some('"') => return Ok(text),
                Some('\\') => text.push(self.escaped()?),
                None | Some('\n') => return Err(begun),
                Some(character) => text.push(character),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, Fault> {
        match self.next() {
            Some('n') => Ok('\n'),
            Some('t') => Ok('\t'),
            Some('r') => Ok('\r'),
            Some(character @ ('"' | '\\')) => Ok(character),
            _ => Err(self.fault("only \\n, \\t, \\r, \\\" and \\\\ are known behind a backslash")),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text(content: &str) -> Value {
        Value::Text(content.into())
    }

    #[test]
    fn a_block_is_read_as_servers_print_it() {
        let block = "# a comment\nendpoints = [\n  \"a:1\", // another\n  \"b:2\",\n]\n\"namespace\"=\"prod\" /* and\none more */\n\
                     count = 3\nenabled = true\nempty = []\n";
        let expected = [
            ("endpoints", Value::List(vec![text("a:1"), text("b:2")])),
            ("namespace", text("prod")),
            ("count", Value::Word("3".into())),
            ("enabled", Value::Word("true".into())),
            ("empty", Value::List(vec![])),
        ];
        assert_eq!(parse(block).unwrap(), expected.map(|(key, value)| (key.to_owned(), value)));
        assert_eq!(parse("").unwrap(), []);
        assert_eq!(parse(r#"a = "x\"y\\z\n""#).unwrap(), [("a".to_owned(), text("x\"y\\z\n"))]);
    }

    #[test]
    fn faults_are_told_with_their_line() {
        for (block, line) in [
            ("a", 1),
            ("a = \"x\nb = 1", 1),
            ("a = 1\nb {\n}", 2),
            ("a = {}", 1),
            ("\n\na = [1 2]", 3),
            ("a = [", 1),
            ("a = <<EOF\nx\nEOF", 1),
            ("/* never ends", 1),
            ("= 1", 1),
            ("a = \"\\q\"", 1),
            ("a = [[[[[1]]]]]", 1),
        ] {
            let fault = parse(block).unwrap_err();
            assert_eq!(fault.line, line, "{block}: {fault}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(block in "\\PC{0,200}") {
            let _ = parse(&block);
        }

        #[test]
        fn texts_come_back(content in "[^\\x00-\\x1f]{0,40}") {
            let written = content.replace('\\', "\\\\").replace('"', "\\\"");
            prop_assert_eq!(parse(&format!("key = \"{written}\"")).unwrap(), [("key".to_owned(), text(&content))]);
        }
    }
}
