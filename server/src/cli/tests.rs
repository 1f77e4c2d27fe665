use clap::CommandFactory as _;

use super::*;

fn parses(line: &str) -> bool {
    CommandLine::try_parse_from(line.split_whitespace()).is_ok()
}

#[test]
fn the_command_line_is_consistent() {
    CommandLine::command().debug_assert();
}

#[test]
fn what_operators_know_is_understood() {
    for line in [
        "steeple dev",
        "steeple dev --data d --listen 127.0.0.1:0 --http-listen 127.0.0.1:0 --namespace n",
        "steeple serve --config f --allow-insecure --store-kind memory --retention-history 1h",
        "steeple config print --limits-tails 5",
        "steeple spire entry create --parent-id spiffe://a/p --spiffe-id spiffe://a/w --selector unix:uid:1000 \
         --selector unix:gid:1 --federates-with spiffe://b --x509-svid-ttl 60 --jwt-svid-ttl 60 --hint h --dns d \
         --downstream --admin --store-svid --entry-expiry 1700000000",
        "steeple spire entry create --parentID spiffe://a/p --spiffeID spiffe://a/w --selector unix:uid:1000",
        "steeple spire entry create --node --spiffe-id spiffe://a/w --selector unix:uid:1000",
        "steeple spire entry create --data entries.json",
        "steeple spire entry list --selector unix:uid:1 --match exact --federates-with b --match-federates-with any",
        "steeple spire entry list --downstream=false -o json",
        "steeple spire entry show e1 e2",
        "steeple spire entry update --entryID e --hint x --admin=false",
        "steeple spire entry delete --entry-id e",
        "steeple spire agent list --banned --attestation-type join_token --expires-before now+1h",
        "steeple spire agent ban --spiffe-id spiffe://a/agent",
        "steeple spire agent purge --expired-for 1h",
        "steeple spire bundle set --id spiffe://a --path f --format pem",
        "steeple spire bundle delete --id a --mode dissociate",
        "steeple spire token generate --ttl 60 --spiffe-id spiffe://a/w",
        "steeple spire federation create --trust-domain a --bundle-endpoint-url u --bundle-endpoint-profile https_web",
        "steeple cluster status --endpoint a:7400,b:7400 -o json",
        "steeple cluster status --address a:7400 --address b:7400",
        "steeple cluster add 4 --peer-address d:7500 --client-address d:7400",
        "steeple cluster add 4 --peer-address d:7500 --voter",
        "steeple cluster promote 4",
        "steeple cluster change-address 4 --client-address e:7400",
        "steeple cluster transfer-leader 2",
        "steeple cluster remove 4",
        "steeple events tail --from-start --stream registrations --key e --cursor-file f",
        "steeple history state-at entry e --time now-1h",
        "steeple log verify d",
        "steeple snapshot save f",
        "steeple snapshot restore f --data d --store-kind fjall",
        "steeple snapshot rescue f --data d -o json",
        "steeple prune events --older-than 0",
        "steeple load --agents 10000 --entries 100000 --seed 7",
        "steeple load --profile spire --agents 3500 --workloads 31000 --calls-per-second 47000 --duration 2m --steps 10 \
         --servers 3 --agent-calls uncached --calls-in-flight 4096 --on-time 500ms --patience 2s --no-fill --json f \
         --plot f",
        "steeple spire-plugin",
        "steeple spire-plugin --log-level debug",
        "steeple completions zsh",
    ] {
        assert!(parses(line), "{line}: {}", CommandLine::try_parse_from(line.split_whitespace()).unwrap_err());
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    for line in [
        "steeple",
        "steeple dance",
        "steeple dev --data",
        "steeple load --steps 10",
        "steeple load --profile k8s",
        "steeple spire federation update --trust-domain a --endpoint-spiffe-id spiffe://a/endpoint",
        "steeple serve --store-kind paper",
        "steeple spire entry create --selector unix --spiffe-id spiffe://a/w --parent-id spiffe://a/p",
        "steeple spire entry create --data f --spiffe-id spiffe://a/w",
        "steeple spire entry create --node --parent-id spiffe://a/p",
        "steeple spire entry list --match exact",
        "steeple spire entry list --selector unix:uid:1 --match like",
        "steeple spire entry update --hint x",
        "steeple spire entry delete",
        "steeple spire bundle taint --id a",
        "steeple cluster add 4",
        "steeple cluster remove 0",
        "steeple cluster change-address 4",
        "steeple events tail --cursor c --from-start",
        "steeple history state-at entry e",
        "steeple snapshot restore f",
        "steeple snapshot rescue f",
        "steeple load --agents 0",
    ] {
        assert!(!parses(line), "{line}");
    }
}

#[test]
fn the_reference_page_names_every_command_and_exit_code() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let page = std::fs::read_to_string(path).unwrap();
    for (command, subcommand) in commands("steeple", &CommandLine::command()) {
        assert!(page.contains(&format!("`{command}")), "docs/cli.md does not name `{command}`");
        assert!(page.contains(&subcommand), "docs/cli.md does not name {subcommand} of `{command}`");
    }
    for code in 0..=5 {
        assert!(page.contains(&format!("| {code} |")), "docs/cli.md does not list exit code {code}");
    }
}

/// Each command that does something: the words before its last one, and the last one.
fn commands(prefix: &str, command: &clap::Command) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for subcommand in command.get_subcommands() {
        if subcommand.has_subcommands() {
            found.extend(commands(&format!("{prefix} {}", subcommand.get_name()), subcommand));
        } else {
            found.push((prefix.to_owned(), subcommand.get_name().to_owned()));
        }
    }
    found
}
