//! Configuration: order of sources, unknown keys, bad values, and the page that lists them all.

use super::*;

fn load(text: &str) -> Result<Config, String> {
    load_with(text, &Overrides::default())
}

fn load_with(text: &str, overrides: &Overrides) -> Result<Config, String> {
    Config::parse(text, Path::new("steeple.toml"), overrides).map_err(|error| error.to_string())
}

fn environment(variables: &[(&str, &str)]) -> Overrides {
    Overrides::from_environment(variables.iter().map(|(name, value)| (name.into(), value.into()))).unwrap()
}

#[test]
fn an_empty_file_gives_the_defaults() {
    assert_eq!(load("").unwrap(), Config::default());
    assert_eq!(Config::load(None, &Overrides::default()).unwrap(), Config::default());
}

#[test]
fn every_key_can_be_set_in_the_file() {
    let config = load(
        r#"
        [node]
        data = "/var/lib/steeple"
        listen = "0.0.0.0:1"
        http_listen = "[::1]:2"
        allow_insecure = true
        namespace = "prod"
        reserved_memory = "2GiB"
        [cluster]
        node = 2
        initial = ["1=one:7402", "2=two:7402/two:7400"]
        name = "prod"
        listen = "127.0.0.1:7402"
        advertise = "two:7402"
        client_advertise = "two:7400"
        tick = "100ms"
        lease_reads = true
        [tls]
        certificate = "node.pem"
        key = "node-key.pem"
        authority = "authority.pem"
        [roles]
        admin = ["spiffe://td/ops/*", "cn:operator"]
        read_write = ["prod=spiffe://td/server"]
        read_only = ["*=spiffe://td/audit"]
        events_only = ["prod=spiffe://td/feed"]
        peer = ["spiffe://td/steeple"]
        [log]
        segment_bytes = "16MiB"
        segment_entries = 1000
        spare_segments = 3
        verify_everything = true
        cut_undecided = true
        [store]
        kind = "fjall"
        flush_interval = "1500ms"
        [retention]
        history = "7days"
        followers = "2h"
        streams = 0
        request_ids = "1h 30m"
        [compaction]
        interval = "0"
        rewrite_below_percent = 25
        base_interval_bytes = 1048576
        [limits]
        queued_mutations = 5
        tails = 7
        [tracing]
        level = "info,steeple_engine=debug"
        format = "json"
        "#,
    )
    .unwrap();
    assert_eq!(config.node.data, Path::new("/var/lib/steeple"));
    assert_eq!(config.node.reserved_memory, 2 << 30);
    assert_eq!(config.log.segment_bytes, 16 << 20);
    assert_eq!(config.store.kind, StoreKind::Fjall);
    assert_eq!(config.retention.request_ids, Duration::from_secs(5400));
    assert_eq!(config.retention.streams, Duration::ZERO);
    assert_eq!(config.tracing.format, TracingFormat::Json);
    let defaults = Config::default();
    // A node founds a group or joins one.
    for key in KEYS.iter().filter(|key| key.name != "cluster.join") {
        assert_ne!(key.value(&config), key.value(&defaults), "{} was not set above", key.name);
    }
    assert_eq!(load(&to_toml(&config)).unwrap(), config, "what is printed can be read");
}

#[test]
fn every_key_can_be_set_by_variable_and_by_flag() {
    let other = |key: &Key| match key.kind {
        Kind::Flag => "true",
        Kind::Count => "64",
        Kind::Bytes => "32MiB",
        Kind::Duration if key.name == "cluster.tick" => "1s",
        Kind::Duration => "3m",
        Kind::Address => "127.0.0.1:9",
        Kind::Path => "elsewhere",
        Kind::Text if key.name.ends_with("advertise") => "here:1",
        Kind::Text => "debug",
        Kind::List if key.name == "cluster.initial" => "1=a:1,2=b:2/c:3",
        Kind::List if key.name == "cluster.join" => "a:1,b:2",
        Kind::Choice(words) => words[1],
        Kind::List if ["roles.admin", "roles.peer"].contains(&key.name) => "cn:a,spiffe://td/b",
        Kind::List => "prod=cn:a,*=cn:b",
    };
    // Files and roles are of no use one without the other.
    let file = "[tls]\ncertificate = \"c\"\nkey = \"k\"\nauthority = \"a\"\n[roles]\nadmin = [\"cn:x\"]";
    for key in KEYS {
        let expected = other(key);
        let by_variable = load_with(file, &environment(&[(&key.variable(), expected)])).unwrap();
        assert_eq!(key.value(&by_variable), expected, "{}", key.name);
        let mut overrides = Overrides::default();
        overrides.flag(key.flag, expected).unwrap();
        let by_flag = load_with(file, &overrides).unwrap();
        assert_eq!(key.value(&by_flag), expected, "{}", key.name);
    }
}

#[test]
fn flags_win_over_variables_and_those_over_the_file() {
    let file = "[limits]\ntails = 10\nqueued_mutations = 10";
    let mut both = environment(&[("STEEPLE_LIMITS_TAILS", "20"), ("STEEPLE_LIMITS_QUEUED_MUTATIONS", "20")]);
    both.flag("limits-tails", "30").unwrap();
    let limits = load_with(file, &both).unwrap().limits;
    assert_eq!((limits.tails, limits.queued_mutations), (30, 20));
    assert_eq!(load(file).unwrap().limits.queued_mutations, 10);
}

#[test]
fn foreign_variables_are_left_alone() {
    let overrides = environment(&[("STEEPLE_PORT_7400_TCP", "tcp://10.0.0.1:7400"), ("PATH", "/bin")]);
    assert_eq!(load_with("", &overrides).unwrap(), Config::default());
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_and_the_place() {
    let cases = [
        ("[node]\ndate = \"x\"", "steeple.toml:2:1: unknown key `node.date`; did you mean `node.data`?"),
        ("\n\n[nod]\n", "steeple.toml:3:2: unknown key `nod`; did you mean `node`?"),
        (
            "[store]\n  kind = \"sled\"\n  flush = \"1s\"",
            "steeple.toml:3:3: unknown key `store.flush`; did you mean `store.flush_interval`?",
        ),
        ("listen = \"127.0.0.1:1\"", "steeple.toml:1:1: unknown key `listen`; did you mean `node.listen`?"),
        ("[zzz]", "steeple.toml:1:2: unknown key `zzz`"),
    ];
    for (text, expected) in cases {
        assert_eq!(load(text).unwrap_err(), expected);
    }
}

#[test]
fn bad_values_are_refused_with_what_would_be_right() {
    let cases = [
        ("[node]\nlisten = \"here\"", "steeple.toml:2:10: node.listen: `here` is not an address"),
        ("[node]\ndata = \"\"", "steeple.toml:2:8: node.data: the path is empty"),
        ("[node]\nallow_insecure = \"yes\"", "node.allow_insecure: expected `true` or `false`, found"),
        ("[node]\nnamespace = \"a b\"", "node.namespace: has to be empty, or up to 255"),
        ("[store]\nkind = \"slde\"", "`slde` is not one of `sled`, `fjall`, `memory`; did you mean `sled`?"),
        ("[store]\nflush_interval = 5", "expected a duration such as \"10m\" in quotes"),
        ("[store]\nflush_interval = \"5 parsecs\"", "is not a duration"),
        ("[store]\nflush_interval = \"0\"", "store.flush_interval: has to be between 10ms and 1h"),
        ("[retention]\nrequest_ids = \"59s\"", "retention.request_ids: has to be between 1m and 24h"),
        ("[retention]\nhistory = \"1000years\"", "is more than 100 years"),
        ("[log]\nsegment_bytes = \"1KiB\"", "1KiB is out of range: 1MiB to 1GiB"),
        ("[log]\nsegment_bytes = \"99999999999GiB\"", "is too large"),
        ("[log]\nsegment_bytes = \"big\"", "is not a size"),
        ("[log]\nsegment_bytes = \"1MiB\"", "log.segment_entries: takes more than half of log.segment_bytes"),
        ("[limits]\ntails = 0", "0 is out of range: 1 to 100000"),
        ("[limits]\ntails = -1", "`-1` is not a whole number in the range 1 to 100000"),
        ("[limits]\ntails = 1.5", "expected a whole number, found a value of type float"),
        ("[tracing]\nlevel = \"loud\"", "tracing.level: `loud` is neither a level"),
        ("[tracing]\nlevel = \"info, é[\"", "neither a level"),
        ("node = 1", "steeple.toml:1:1: `node` is a section"),
        ("[node]\nhttp_listen = \"127.0.0.1:7400\"", "is the same address as node.listen"),
    ];
    for (text, expected) in cases {
        let found = load(text).unwrap_err();
        assert!(found.contains(expected), "{text:?} gave {found:?} without {expected:?}");
    }
}

#[test]
fn reachable_addresses_have_to_be_allowed() {
    let refused = load("[node]\nlisten = \"0.0.0.0:7400\"").unwrap_err();
    assert!(refused.contains("node.listen: 0.0.0.0:7400 can be reached from other machines"), "{refused}");
    let refused = load("[node]\nhttp_listen = \"10.0.0.1:7401\"").unwrap_err();
    assert!(refused.contains("node.http_listen"), "{refused}");
    assert!(load("[node]\nlisten = \"0.0.0.0:7400\"\nallow_insecure = true").is_ok());
}

#[test]
fn an_authority_makes_addresses_reachable() {
    let secure = |more: &str| {
        load(&format!(
            "[tls]\ncertificate = \"c\"\nkey = \"k\"\n{more}\n[node]\nlisten = \"0.0.0.0:7400\"\nhttp_listen = \"0.0.0.0:7401\""
        ))
    };
    secure("authority = \"a\"\n[roles]\nadmin = [\"cn:x\"]").unwrap();
    let refused = secure("").unwrap_err();
    assert!(refused.contains("node.listen: 0.0.0.0:7400 can be reached from other machines, and nobody"), "{refused}");
}

#[test]
fn protection_is_given_whole_or_not_at_all() {
    let cases = [
        ("[tls]\ncertificate = \"c\"", "tls.key: is missing"),
        ("[tls]\nkey = \"k\"", "tls.certificate: is missing; tls.key"),
        ("[tls]\nauthority = \"a\"", "tls.certificate: is missing; tls.authority"),
        ("[roles]\nadmin = [\"cn:x\"]", "tls.authority: is missing"),
        ("[roles]\npeer = [\"cn:x\"]", "tls.authority: is missing"),
        ("[tls]\ncertificate = \"c\"\nkey = \"k\"\nauthority = \"a\"", "roles.admin: is empty"),
        (
            "[tls]\ncertificate = \"c\"\nkey = \"k\"\nauthority = \"a\"\n[roles]\npeer = [\"cn:x\"]",
            "roles.admin: is empty",
        ),
        (
            "[tls]\ncertificate = \"c\"\nkey = \"k\"\n[cluster]\ninitial = [\"1=a:1\"]",
            "tls.authority: is missing; the nodes of a group",
        ),
        ("[roles]\nadmin = \"cn:x\"", "expected a list of texts such as"),
        ("[roles]\nadmin = [1]", "expected texts in quotes, found a value of type integer"),
        ("[roles]\nadmin = [\"cn:a,cn:b\"]", "contains a comma"),
        ("[roles]\nadmin = [\"\"]", "a value of the list is empty"),
        ("[roles]\nadmin = [\"somebody\"]", "`somebody` is no identity"),
        ("[roles]\nread_only = [\"cn:x\"]", "`cn:x` names no namespace"),
    ];
    for (text, expected) in cases {
        let found = load(text).unwrap_err();
        assert!(found.contains(expected), "{text:?} gave {found:?} without {expected:?}");
    }
}

#[test]
fn what_is_no_toml_is_refused_with_the_place() {
    for text in ["[node", "[node]\ndata = ", "[node]\ndata = \"a\"\ndata = \"b\"", "\u{0}"] {
        let found = load(text).unwrap_err();
        assert!(found.starts_with("steeple.toml:"), "{text:?} gave {found:?}");
    }
}

#[test]
fn a_bad_override_names_its_origin() {
    let found = load_with("", &environment(&[("STEEPLE_LIMITS_TAILS", "many")])).unwrap_err();
    assert!(found.starts_with("environment variable STEEPLE_LIMITS_TAILS: limits.tails: `many`"), "{found}");
    let mut overrides = Overrides::default();
    overrides.flag("limits-tails", "many").unwrap();
    let found = load_with("", &overrides).unwrap_err();
    assert!(found.starts_with("flag --limits-tails: "), "{found}");
    let unknown = overrides.flag("limits-tail", "1").unwrap_err().to_string();
    assert!(unknown.ends_with("did you mean `limits-tails`?"), "{unknown}");
}

#[test]
fn missing_and_huge_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing.toml");
    let missing = Config::load(Some(&path), &Overrides::default()).unwrap_err();
    assert!(matches!(missing, ConfigError::Read { .. }), "{missing}");
    std::fs::write(&path, vec![b'#'; (1 << 20) + 1]).unwrap();
    let huge = Config::load(Some(&path), &Overrides::default()).unwrap_err();
    assert!(matches!(huge, ConfigError::TooLarge { .. }), "{huge}");
}

#[test]
fn names_are_unique_and_flags_follow_them() {
    for (place, key) in KEYS.iter().enumerate() {
        let plain = key.name.replace(['.', '_'], "-");
        assert!(plain.ends_with(key.flag), "{}", key.name);
        assert!(
            KEYS[..place].iter().all(|earlier| earlier.flag != key.flag && earlier.name != key.name),
            "{}",
            key.name
        );
    }
}

#[test]
fn durations_and_sizes_are_written_as_they_are_read() {
    for text in ["24h", "90m", "10m", "5s", "250ms", "0"] {
        assert_eq!(value::duration_text(value::duration(text).unwrap()), text);
    }
    for text in ["64MiB", "1GiB", "3KiB", "1025B", "0"] {
        assert_eq!(value::bytes_text(value::bytes(text, 0..=u64::MAX).unwrap()), text);
    }
}

#[test]
fn the_reference_page_lists_every_key() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let introduction = page.split("\n## ").next().unwrap().trim_end();
    let expected = format!("{introduction}\n{}", reference());
    if std::env::var_os("UPDATE_DOCS").is_some() {
        return std::fs::write(&path, &expected).unwrap();
    }
    assert!(page == expected, "docs/configuration.md is out of date; run this test with UPDATE_DOCS=1");
}

#[test]
fn the_example_file_is_right() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/steeple.toml");
    let config = Config::load(Some(&path), &Overrides::default()).unwrap();
    assert_eq!(config.retention.history, Duration::from_secs(72 * 3600));
}
