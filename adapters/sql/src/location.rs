//! Where a database is: `sqlite:FILE`, `postgres:...` or `mysql:...`, with URLs or with what SPIRE's configuration has as
//! `connection_string`.

use std::path::PathBuf;
use std::str::FromStr;

use sqlx::mysql::{MySqlConnectOptions, MySqlSslMode};
use sqlx::postgres::{PgConnectOptions, PgSslMode};

use crate::Error;

/// Where a database is.
#[derive(Clone, Debug)]
pub enum Location {
    /// A file of SQLite.
    Sqlite(PathBuf),
    /// A database on a PostgreSQL server.
    Postgres(Box<PgConnectOptions>),
    /// A database on a MySQL or MariaDB server.
    MySql(Box<MySqlConnectOptions>),
}

/// How far times without offset are ahead of UTC, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ZoneOffset(pub i32);

/// `UTC`, `+02:00` or `-05:30`.
impl FromStr for ZoneOffset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("utc") || text == "Z" {
            return Ok(Self(0));
        }
        let explain = || format!("`{text}` is no offset; write `UTC`, `+02:00` or `-05:30`");
        let sign = match text.chars().next() {
            Some('+') => 1,
            Some('-') => -1,
            _ => return Err(explain()),
        };
        let (hours, minutes) = text[1..].split_once(':').ok_or_else(explain)?;
        let number = |digits: &str, end: i32| {
            let fits = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_digit());
            digits.parse::<i32>().ok().filter(|number| fits && *number < end).ok_or_else(explain)
        };
        Ok(Self(sign * (number(hours, 24)? * 3_600 + number(minutes, 60)? * 60)))
    }
}

impl FromStr for Location {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let explain = || {
            let known = "sqlite:FILE, postgres://USER:PASSWORD@HOST/DATABASE, mysql://USER:PASSWORD@HOST/DATABASE";
            Error::Location(format!("it is not clear which database is meant; write {known}"))
        };
        let (kind, rest) = text.split_once(':').ok_or_else(explain)?;
        match kind {
            "sqlite" | "sqlite3" => sqlite(rest),
            "postgres" | "postgresql" => postgres(text, rest),
            "mysql" | "mariadb" => mysql(text, rest),
            _ => Err(explain()),
        }
    }
}

impl Location {
    /// Which database it is, without a password.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Sqlite(path) => format!("SQLite {}", path.display()),
            Self::Postgres(options) => {
                format!(
                    "PostgreSQL {} on {}",
                    options.get_database().unwrap_or(options.get_username()),
                    options.get_host()
                )
            }
            Self::MySql(options) => {
                format!("MySQL {} on {}", options.get_database().unwrap_or("?"), options.get_host())
            }
        }
    }
}

fn sqlite(rest: &str) -> Result<Location, Error> {
    let path = rest.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(rest);
    // SPIRE's own connection strings may be URLs of files, with parameters.
    let path = path.strip_prefix("file:").unwrap_or(path);
    let path = path.split_once('?').map_or(path, |(path, _)| path);
    if path.is_empty() || path == ":memory:" {
        return Err(Error::Location("sqlite: needs the name of a file".into()));
    }
    Ok(Location::Sqlite(path.into()))
}

fn postgres(text: &str, rest: &str) -> Result<Location, Error> {
    let url = if rest.starts_with("//") { text } else { rest };
    let options = if url.contains("://") {
        // What the driver complains about may hold the password, so it is not repeated.
        PgConnectOptions::from_str(url)
            .map_err(|_| Error::Location("the URL of the PostgreSQL database is malformed".into()))?
    } else {
        keyword_options(rest)?
    };
    Ok(Location::Postgres(Box::new(options.application_name("steeple"))))
}

/// `host=... user=... dbname=...`.
fn keyword_options(text: &str) -> Result<PgConnectOptions, Error> {
    let mut options = PgConnectOptions::new();
    for (key, value) in keywords(text)? {
        options = match key.as_str() {
            "host" | "hostaddr" => options.host(&value),
            "port" => options.port(number(&key, &value)?),
            "user" => options.username(&value),
            "password" => options.password(&value),
            "dbname" => options.database(&value),
            "sslmode" => options.ssl_mode(PgSslMode::from_str(&value).map_err(|_| unknown("sslmode", &value))?),
            "sslrootcert" => options.ssl_root_cert(value),
            "sslcert" => options.ssl_client_cert(value),
            "sslkey" => options.ssl_client_key(value),
            // Of no meaning for reading once.
            "connect_timeout" | "application_name" | "fallback_application_name" | "binary_parameters" => options,
            _ => return Err(Error::Location(format!("`{key}` of the connection string is not known here"))),
        };
    }
    Ok(options)
}

/// Pairs of `key=value`; values may stand in single quotes.
fn keywords(text: &str) -> Result<Vec<(String, String)>, Error> {
    let (mut pairs, mut rest) = (Vec::new(), text.trim());
    while !rest.is_empty() {
        let malformed = || Error::Location("the connection string is not made of KEY=VALUE".into());
        let (key, behind) = rest.split_once('=').ok_or_else(malformed)?;
        let (key, behind) = (key.trim(), behind.trim_start());
        let (mut value, mut letters, quoted) = (String::new(), behind.char_indices(), behind.starts_with('\''));
        if quoted {
            letters.next();
        }
        let mut end = None;
        while let Some((place, letter)) = letters.next() {
            match letter {
                '\\' => value.push(letters.next().ok_or_else(malformed)?.1),
                '\'' if quoted => {
                    end = Some(place + 1);
                    break;
                }
                letter if !quoted && letter.is_whitespace() => {
                    end = Some(place);
                    break;
                }
                letter => value.push(letter),
            }
        }
        if (quoted && end.is_none()) || key.is_empty() {
            return Err(malformed());
        }
        pairs.push((key.to_owned(), value));
        rest = behind[end.unwrap_or(behind.len())..].trim_start();
    }
    Ok(pairs)
}

fn mysql(text: &str, rest: &str) -> Result<Location, Error> {
    let url = if rest.starts_with("//") { text } else { rest };
    let options = if url.contains("://") {
        let url = url.replacen("mariadb://", "mysql://", 1);
        MySqlConnectOptions::from_str(&url)
            .map_err(|_| Error::Location("the URL of the MySQL database is malformed".into()))?
    } else {
        data_source_options(rest)?
    };
    if options.get_database().is_none() {
        return Err(Error::Location("the name of the MySQL database is missing".into()));
    }
    Ok(Location::MySql(Box::new(options)))
}

/// `user:password@tcp(host:port)/database?parameters`, as the driver of SPIRE takes it.
fn data_source_options(text: &str) -> Result<MySqlConnectOptions, Error> {
    let malformed = || {
        Error::Location("expected mysql://USER:PASSWORD@HOST/DATABASE or USER:PASSWORD@tcp(HOST:PORT)/DATABASE".into())
    };
    let (credentials, rest) = text.rsplit_once('@').ok_or_else(malformed)?;
    let (address, rest) = rest.split_once('/').filter(|_| !rest.starts_with("unix(")).map_or_else(
        || rest.split_once(")/").map(|(address, rest)| (format!("{address})"), rest)).ok_or_else(malformed),
        |(address, rest)| Ok((address.to_owned(), rest)),
    )?;
    let (database, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
    let inside = |prefix: &str| address.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(')'));
    let mut options = MySqlConnectOptions::new().username(user).database(database);
    if !password.is_empty() {
        options = options.password(password);
    }
    if let Some(path) = inside("unix(") {
        options = options.socket(path);
    } else {
        let address = inside("tcp(").ok_or_else(malformed)?;
        let (host, port) = address.rsplit_once(':').unwrap_or((address, "3306"));
        options = options.host(host.trim_matches(['[', ']'])).port(number("port", port)?);
    }
    for parameter in parameters.split('&').filter(|parameter| !parameter.is_empty()) {
        let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        options = match (key, value) {
            ("tls", "true" | "skip-verify") => options.ssl_mode(MySqlSslMode::Required),
            ("tls", "false") => options.ssl_mode(MySqlSslMode::Disabled),
            ("tls", "preferred") => options.ssl_mode(MySqlSslMode::Preferred),
            ("tls", _) => return Err(unknown("tls", value)),
            ("loc", "UTC" | "") => options,
            ("loc", _) => {
                let text = "`loc` is not taken from the connection string; leave it out and give --time-zone";
                return Err(Error::Location(text.into()));
            }
            // How the driver of SPIRE hands results over.
            _ => options,
        };
    }
    Ok(options)
}

fn number(what: &str, text: &str) -> Result<u16, Error> {
    text.parse().map_err(|_| unknown(what, text))
}

fn unknown(what: &str, value: &str) -> Error {
    Error::Location(format!("`{value}` is no {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Location, String> {
        text.parse::<Location>().map_err(|error| error.to_string())
    }

    fn describe(text: &str) -> String {
        parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).describe()
    }

    #[test]
    fn files() {
        for text in ["sqlite:/a/b.sqlite3", "sqlite:///a/b.sqlite3", "sqlite3:file:/a/b.sqlite3?cache=shared"] {
            assert_eq!(describe(text), "SQLite /a/b.sqlite3", "{text}");
        }
        assert_eq!(describe("sqlite:data/x.db"), "SQLite data/x.db");
        assert!(parse("sqlite:").is_err() && parse("sqlite::memory:").is_err());
    }

    #[test]
    fn servers() {
        for text in [
            "postgres://me:secret@db.example/spire?sslmode=disable",
            "postgresql://me:secret@db.example/spire",
            "postgres:postgres://me:secret@db.example/spire",
            "postgres:host=db.example user=me password='se cret' dbname = spire sslmode=require",
        ] {
            assert_eq!(describe(text), "PostgreSQL spire on db.example", "{text}");
        }
        for text in [
            "mysql://me:secret@db.example/spire",
            "mariadb://me:secret@db.example:3307/spire",
            "mysql:me:sec@ret@tcp(db.example:3307)/spire?parseTime=true",
            "mysql:me@tcp(db.example)/spire?parseTime=true&tls=false&loc=UTC",
        ] {
            assert_eq!(describe(text), "MySQL spire on db.example", "{text}");
        }
        assert!(parse("mysql:me@unix(/run/my.sock)/spire").is_ok());
    }

    #[test]
    fn what_is_not_understood_is_refused_without_passwords() {
        for text in [
            "",
            "oracle://me:secret@db/spire",
            "spire.sqlite3",
            "postgres:secret",
            "postgres:password='secret",
            "postgres:password=secret shoe=42",
            "postgres:password=secret port=many",
            "postgres://me:secret@:x/",
            "mysql:me:secret@db/spire",
            "mysql://me:secret@db.example",
            "mysql:me:secret@tcp(db)/spire?loc=Europe%2FBerlin",
            "mysql:me:secret@tcp(db)/spire?tls=mine",
        ] {
            let error = parse(text).expect_err(text);
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn offsets() {
        for (text, seconds) in [("UTC", 0), ("+02:00", 7_200), ("-05:30", -19_800)] {
            assert_eq!(text.parse(), Ok(ZoneOffset(seconds)), "{text}");
        }
        for text in ["", "2", "+2", "+2:00", "+25:00", "CET", "+ä:00"] {
            assert!(text.parse::<ZoneOffset>().is_err(), "{text}");
        }
    }
}
