//! What SPIRE has the node keep unparsed and later look into: certificates of bundles, contents of CA journals.
#![no_main]

use libfuzzer_sys::fuzz_target;
use steeple_engine::domain::Command;
use steeple_engine::ids::{NamespaceId, Timestamp};
use steeple_engine::local::{LocalError, LocalGroup};
use steeple_engine::namespaces;
use steeple_engine::spire::bundles::records::{Bundle, Certificate};
use steeple_engine::spire::journals::records::Journal;
use steeple_engine::spire::{self, bundles, journals};

const TRUST_DOMAIN: &str = "spiffe://td.example";

fn bundle(command: bundles::Command) -> Command {
    Command::Spire(spire::Command::Bundle(command))
}

fn journal(command: journals::Command) -> Command {
    Command::Spire(spire::Command::Journal(command))
}

fuzz_target!(|bytes: &[u8]| {
    let mut group = LocalGroup::new(1, Timestamp(1)).expect("an empty group opens");
    let open = Command::Namespace(namespaces::Command::Open { name: "fuzz".into() });
    group.submit(NamespaceId::SYSTEM, &open).expect("a namespace opens");
    let trust_domain_id = || TRUST_DOMAIN.to_owned();
    let kept = Bundle {
        trust_domain_id: trust_domain_id(),
        root_cas: vec![Certificate { der_bytes: bytes.to_vec(), ..Certificate::default() }],
        ..Bundle::default()
    };
    let commands = [
        bundle(bundles::Command::Create(Some(kept))),
        bundle(bundles::Command::TaintX509 { trust_domain_id: trust_domain_id(), subject_key_id: "aa".into() }),
        bundle(bundles::Command::RevokeX509 { trust_domain_id: trust_domain_id(), subject_key_id: "aa".into() }),
        bundle(bundles::Command::Prune { trust_domain_id: trust_domain_id(), expires_before: i64::MAX }),
        journal(journals::Command::Set(Some(Journal { data: bytes.to_vec(), ..Journal::default() }))),
        journal(journals::Command::Prune { keep_after: i64::MAX, limit: 0 }),
    ];
    for command in &commands {
        match group.submit(NamespaceId(1), command) {
            Ok(_) | Err(LocalError::Rejected(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }
});
