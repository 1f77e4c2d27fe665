use steeple_client::Namespace;
use steeple_client::types::{Bundle, BundleMask, Certificate, CreateBundleRequest, CreateBundleResponse, PublicKey};
use steeple_tests::certificates::{authority, leaf, root};
use steeple_tests::check::{NOT_FOUND, case, not_found, refused, refused_starting, status};
use steeple_tests::paging::all_pages;
use steeple_tests::raw;
use steeple_tests::records::{MICROS, NOW, bundle, entry_event_ids, key, node_event_ids};
use steeple_tests::server::{namespace, run, shared};
use steeple_wire::common::v1::RequestContext;
use tonic::Code;

const TD: &str = "spiffe://foo";

const NONE: BundleMask = BundleMask {
    root_cas: false,
    jwt_signing_keys: false,
    refresh_hint: false,
    sequence_number: false,
    x509_tainted_keys: false,
    wit_signing_keys: false,
};

fn seconds(time: i64) -> u64 {
    u64::try_from(time).unwrap()
}

#[test]
fn test_bundle_crud() {
    run(async {
        let datastore = namespace().await;
        let first = Bundle { refresh_hint: 60, ..bundle(TD, &[1]) };

        // Absent.
        assert_eq!(datastore.fetch_bundle(TD).await.unwrap(), None);
        not_found(datastore.update_bundle(first.clone(), None).await);
        not_found(datastore.delete_bundle(TD, Default::default()).await);

        // Created once.
        assert_eq!(datastore.create_bundle(first.clone()).await.unwrap(), first);
        refused(
            datastore.create_bundle(first.clone()).await,
            Code::AlreadyExists,
            "datastore-sql: UNIQUE constraint failed: bundles.trust_domain",
        );
        assert_eq!(datastore.fetch_bundle(TD).await.unwrap(), Some(first.clone()));
        assert_eq!(datastore.list_bundles().await.unwrap(), std::slice::from_ref(&first));

        // Appended.
        let both = Bundle { sequence_number: 1, root_cas: bundle(TD, &[1, 2]).root_cas, ..first.clone() };
        let given = Bundle { refresh_hint: 9, sequence_number: 70, ..bundle(TD, &[2, 1]) };
        assert_eq!(datastore.append_bundle(given.clone()).await.unwrap(), both);
        assert_eq!(datastore.append_bundle(given).await.unwrap(), both);
        assert_eq!(datastore.fetch_bundle(TD).await.unwrap(), Some(both.clone()));

        // Appended to a trust domain without bundle.
        let other = Bundle { sequence_number: 5, ..bundle("spiffe://other", &[2]) };
        assert_eq!(datastore.append_bundle(other.clone()).await.unwrap(), other);
        assert_eq!(datastore.list_bundles().await.unwrap(), [both.clone(), other.clone()]);

        // Updated, field by field.
        let update = Bundle {
            refresh_hint: 120,
            sequence_number: 100,
            jwt_signing_keys: vec![key("jwt", 0)],
            wit_signing_keys: vec![key("wit", 0)],
            ..bundle(TD, &[3])
        };
        let mut expected = both;
        type Step = (&'static str, BundleMask, fn(&mut Bundle, &Bundle));
        let steps: [Step; 7] = [
            ("nothing", NONE, |_, _| {}),
            ("x509_tainted_keys", BundleMask { x509_tainted_keys: true, ..NONE }, |_, _| {}),
            ("root_cas", BundleMask { root_cas: true, ..NONE }, |bundle, update| {
                bundle.root_cas.clone_from(&update.root_cas);
            }),
            ("refresh_hint", BundleMask { refresh_hint: true, ..NONE }, |bundle, update| {
                bundle.refresh_hint = update.refresh_hint;
            }),
            ("sequence_number", BundleMask { sequence_number: true, ..NONE }, |bundle, update| {
                bundle.sequence_number = update.sequence_number;
            }),
            ("jwt_signing_keys", BundleMask { jwt_signing_keys: true, ..NONE }, |bundle, update| {
                bundle.jwt_signing_keys.clone_from(&update.jwt_signing_keys);
            }),
            ("wit_signing_keys", BundleMask { wit_signing_keys: true, ..NONE }, |bundle, update| {
                bundle.wit_signing_keys.clone_from(&update.wit_signing_keys);
            }),
        ];
        for (name, mask, change) in steps {
            let _case = case(name);
            change(&mut expected, &update);
            assert_eq!(datastore.update_bundle(update.clone(), Some(mask)).await.unwrap(), expected);
            assert_eq!(datastore.fetch_bundle(TD).await.unwrap(), Some(expected.clone()));
        }
        let whole = Bundle { refresh_hint: 1, ..bundle(TD, &[4, 5]) };
        assert_eq!(datastore.update_bundle(whole.clone(), None).await.unwrap(), whole);
        assert_eq!(datastore.list_bundles().await.unwrap(), [whole, other.clone()]);

        // Deleted, the other one left alone.
        datastore.delete_bundle(TD, Default::default()).await.unwrap();
        assert_eq!(datastore.fetch_bundle(TD).await.unwrap(), None);
        assert_eq!(datastore.list_bundles().await.unwrap(), [other]);
        assert_eq!(entry_event_ids(&datastore).await, [0u64; 0]);
        assert_eq!(node_event_ids(&datastore).await, [0u64; 0]);
    });
}

async fn four() -> (Namespace, Vec<Bundle>) {
    let datastore = namespace().await;
    let mut bundles = Vec::new();
    for number in 1..=4 {
        let bundle = bundle(&format!("spiffe://td{number}"), &[number]);
        bundles.push(datastore.create_bundle(bundle).await.unwrap());
    }
    (datastore, bundles)
}

#[test]
fn test_list_bundles_with_pagination() {
    run(async {
        let (datastore, bundles) = four().await;
        {
            let _case = case("no pagination");
            assert_eq!(datastore.list_bundles().await.unwrap(), bundles);
        }
        let pages = [
            ("page size bigger than items", "", 5, 0..4, "4"),
            ("bundles first page", "0", 2, 0..2, "2"),
            ("bundles second page", "2", 2, 2..4, "4"),
            ("bundles third page", "4", 2, 0..0, ""),
            ("token larger than 32 bits", "5000000000", 2, 0..0, ""),
        ];
        for (name, token, size, range, next) in pages {
            let _case = case(name);
            let page = datastore.list_bundles_page(token, size).await.unwrap();
            assert_eq!(page, (bundles[range].to_vec(), next.to_owned()));
        }
        {
            let _case = case("pagination page size is zero");
            refused(
                datastore.list_bundles_page("0", 0).await,
                Code::InvalidArgument,
                "cannot paginate with pagesize = 0",
            );
            let _case = case("invalid token");
            refused(
                datastore.list_bundles_page("invalid token", 2).await,
                Code::InvalidArgument,
                "could not parse token 'invalid token'",
            );
        }
        let pages = all_pages(3, async |token| datastore.list_bundles_page(token, 3).await).await;
        assert_eq!((pages.records, pages.tokens), (bundles, vec!["".into(), "3".into(), "4".into()]));
    });
}

#[test]
fn writing_does_not_move_a_bundle() {
    run(async {
        let (datastore, mut bundles) = four().await;
        bundles[0] = datastore.set_bundle(bundle("spiffe://td1", &[9])).await.unwrap();
        bundles[1] = datastore.append_bundle(bundle("spiffe://td2", &[9])).await.unwrap();
        bundles[2] = datastore.update_bundle(bundle("spiffe://td3", &[9]), None).await.unwrap();
        assert_eq!(datastore.list_bundles().await.unwrap(), bundles);
    });
}

#[test]
fn test_count_bundles() {
    run(async {
        let datastore = namespace().await;
        assert_eq!(datastore.count_bundles().await.unwrap(), 0);
        for id in ["spiffe://a", "spiffe://b", "spiffe://c"] {
            datastore.create_bundle(bundle(id, &[1])).await.unwrap();
        }
        assert_eq!(datastore.count_bundles().await.unwrap(), 3);
    });
}

#[test]
fn test_set_bundle() {
    run(async {
        let datastore = namespace().await;
        let first = Bundle { refresh_hint: 60, sequence_number: 3, ..bundle(TD, &[1]) };
        assert_eq!(datastore.set_bundle(first.clone()).await.unwrap(), first);
        assert_eq!(datastore.fetch_bundle(TD).await.unwrap(), Some(first));
        let second = Bundle { wit_signing_keys: vec![key("w", 1)], sequence_number: 2, ..bundle(TD, &[2, 3]) };
        assert_eq!(datastore.set_bundle(second.clone()).await.unwrap(), second);
        assert_eq!(datastore.fetch_bundle(TD).await.unwrap(), Some(second));
    });
}

const ALL_CERTIFICATES: &str = "prune failed: would prune all certificates";

#[test]
fn test_bundle_prune() {
    run(async {
        let datastore = namespace().await;
        let (early, late) = (NOW, NOW + 3600);
        let expired = leaf(seconds(early));
        let valid = authority(b"valid", seconds(late));
        let stored = Bundle {
            trust_domain_id: TD.into(),
            root_cas: vec![root(expired), root(valid.clone())],
            jwt_signing_keys: vec![key("expired", early), key("valid", late)],
            wit_signing_keys: vec![key("expired", early), key("valid", late)],
            refresh_hint: 77,
            sequence_number: 42,
            ..Default::default()
        };
        assert!(!datastore.prune_bundle("spiffe://notexistent", late * MICROS).await.unwrap());
        datastore.create_bundle(stored.clone()).await.unwrap();
        for instant in [late + 10, late] {
            refused(datastore.prune_bundle(TD, instant * MICROS).await, Code::Unknown, ALL_CERTIFICATES);
        }
        assert!(!datastore.prune_bundle(TD, (early - 10) * MICROS).await.unwrap());
        assert_eq!(datastore.fetch_bundle(TD).await.unwrap(), Some(stored.clone()));

        assert!(datastore.prune_bundle(TD, (early + 10) * MICROS).await.unwrap());
        let left = Bundle {
            root_cas: vec![root(valid)],
            jwt_signing_keys: vec![key("valid", late)],
            wit_signing_keys: vec![key("valid", late)],
            sequence_number: 43,
            ..stored
        };
        assert_eq!(datastore.fetch_bundle(TD).await.unwrap(), Some(left.clone()));
        assert!(!datastore.prune_bundle(TD, (early + 10) * MICROS).await.unwrap());
        assert_eq!(datastore.fetch_bundle(TD).await.unwrap(), Some(left));
    });
}

#[test]
fn pruning_refuses_what_would_leave_nothing() {
    run(async {
        let late = || root(authority(b"valid", seconds(NOW + 3600)));
        let early = || root(authority(b"early", seconds(NOW)));
        let of = |root_cas| Bundle { trust_domain_id: TD.into(), root_cas, ..Default::default() };
        let joined = [early().der_bytes, late().der_bytes].concat();
        let rows = [
            ("no certificate to begin with", of(vec![]), ALL_CERTIFICATES),
            ("one of the certificates in an element", of(vec![root(joined)]), ALL_CERTIFICATES),
            (
                "JWT keys",
                Bundle { jwt_signing_keys: vec![key("a", 1), key("b", NOW)], ..of(vec![late()]) },
                "prune failed: would prune all JWT signing keys",
            ),
            (
                "WIT keys",
                Bundle { wit_signing_keys: vec![key("a", NOW)], ..of(vec![late()]) },
                "prune failed: would prune all WIT signing keys",
            ),
        ];
        for (name, bundle, text) in rows {
            let _case = case(name);
            let datastore = namespace().await;
            datastore.create_bundle(bundle.clone()).await.unwrap();
            refused(datastore.prune_bundle(TD, NOW * MICROS).await, Code::Unknown, text);
            assert_eq!(datastore.fetch_bundle(TD).await.unwrap(), Some(bundle));
        }

        let datastore = namespace().await;
        datastore.create_bundle(of(vec![late(), root(*b"garbage")])).await.unwrap();
        refused_starting(
            datastore.prune_bundle(TD, NOW * MICROS).await,
            Code::Unknown,
            "prune failed: cannot parse certificates: ",
        );
        refused(datastore.prune_bundle(TD, 0).await, Code::Unknown, "prune failed: expiration time is zero value");
    });
}

/// Quirks 7 and 8, and taint flags.
#[test]
fn pruning_keeps_the_hint_taints_and_keys_without_expiry() {
    run(async {
        let datastore = namespace().await;
        let tainted = Certificate { tainted_key: true, ..root(authority(b"valid", seconds(NOW + 3600))) };
        let stored = Bundle {
            trust_domain_id: TD.into(),
            root_cas: vec![root(leaf(seconds(NOW))), tainted.clone()],
            jwt_signing_keys: vec![key("never", 0)],
            wit_signing_keys: vec![key("never", 0), key("expired", 1)],
            refresh_hint: 77,
            ..Default::default()
        };
        datastore.create_bundle(stored.clone()).await.unwrap();
        assert!(datastore.prune_bundle(TD, NOW * MICROS).await.unwrap());
        let left =
            Bundle { root_cas: vec![tainted], wit_signing_keys: vec![key("never", 0)], sequence_number: 1, ..stored };
        assert_eq!(datastore.fetch_bundle(TD).await.unwrap(), Some(left));
    });
}

// ---- authorities

/// Subject key ids are given in hexadecimal.
const TAINTED_ID: &str = "7461696e746564";

/// Two CAs of which `TAINTED_ID` (`tainted`) names the second.
fn two_authorities() -> Bundle {
    Bundle {
        trust_domain_id: TD.into(),
        root_cas: vec![root(authority(b"other", seconds(NOW))), root(authority(b"tainted", seconds(NOW)))],
        ..Default::default()
    }
}

#[test]
fn test_taint_x509_ca() {
    run(async {
        let datastore = namespace().await;
        {
            let _case = case("bundle not found");
            not_found(datastore.taint_x509_ca(TD, TAINTED_ID).await);
        }
        {
            let _case = case("bundle not found: malformed stored certificate");
            let malformed = Bundle { root_cas: vec![root(*b"not a certificate")], ..bundle("spiffe://bad", &[]) };
            datastore.create_bundle(malformed.clone()).await.unwrap();
            refused(
                datastore.taint_x509_ca("spiffe://bad", TAINTED_ID).await,
                Code::Internal,
                "failed to parse rootCA: x509: malformed certificate",
            );
            assert_eq!(datastore.fetch_bundle("spiffe://bad").await.unwrap(), Some(malformed));
        }
        let mut expected = datastore.create_bundle(two_authorities()).await.unwrap();
        {
            let _case = case("no bundle with provided skID");
            let text = "no ca found with provided subject key ID";
            for id in ["some-id", "", "7461696E746564"] {
                refused(datastore.taint_x509_ca(TD, id).await, Code::NotFound, text);
            }
            assert_eq!(datastore.fetch_bundle(TD).await.unwrap(), Some(expected.clone()));
        }
        {
            let _case = case("taint successfully");
            datastore.taint_x509_ca(TD, TAINTED_ID).await.unwrap();
            expected.root_cas[1].tainted_key = true;
            expected.sequence_number = 1;
            assert_eq!(datastore.fetch_bundle(TD).await.unwrap(), Some(expected.clone()));
        }
        {
            let _case = case("failed to taint already tainted ca");
            refused(datastore.taint_x509_ca(TD, TAINTED_ID).await, Code::InvalidArgument, "root CA is already tainted");
            assert_eq!(datastore.fetch_bundle(TD).await.unwrap(), Some(expected));
        }
    });
}

#[test]
fn test_revoke_x509_ca() {
    run(async {
        let datastore = namespace().await;
        {
            let _case = case("bundle not found");
            not_found(datastore.revoke_x509_ca(TD, TAINTED_ID).await);
        }
        {
            let _case = case("Bundle contains a malformed certificate");
            let malformed = Bundle { root_cas: vec![root(*b"not a certificate")], ..bundle("spiffe://bad", &[]) };
            datastore.create_bundle(malformed).await.unwrap();
            refused_starting(
                datastore.revoke_x509_ca("spiffe://bad", TAINTED_ID).await,
                Code::Internal,
                "failed to parse root CA: x509: malformed certificate",
            );
        }
        let stored = datastore.create_bundle(two_authorities()).await.unwrap();
        {
            let _case = case("No root CA is using provided skID");
            refused(
                datastore.revoke_x509_ca(TD, "some-id").await,
                Code::NotFound,
                "no root CA found with provided subject key ID",
            );
            let _case = case("Unable to revoke untainted bundles");
            refused(
                datastore.revoke_x509_ca(TD, TAINTED_ID).await,
                Code::InvalidArgument,
                "it is not possible to revoke an untainted root CA",
            );
            assert_eq!(datastore.fetch_bundle(TD).await.unwrap(), Some(stored.clone()));
        }
        {
            let _case = case("Revoke successfully");
            datastore.taint_x509_ca(TD, TAINTED_ID).await.unwrap();
            datastore.revoke_x509_ca(TD, TAINTED_ID).await.unwrap();
            let left = Bundle { root_cas: stored.root_cas[..1].to_vec(), sequence_number: 2, ..stored };
            assert_eq!(datastore.fetch_bundle(TD).await.unwrap(), Some(left));
        }
    });
}

/// Nothing checks that a CA remains.
#[test]
fn the_last_authority_may_be_revoked() {
    run(async {
        let datastore = namespace().await;
        let alone = Bundle { root_cas: vec![root(authority(b"tainted", seconds(NOW)))], ..bundle(TD, &[]) };
        datastore.create_bundle(alone).await.unwrap();
        datastore.taint_x509_ca(TD, TAINTED_ID).await.unwrap();
        datastore.revoke_x509_ca(TD, TAINTED_ID).await.unwrap();
        let left = Bundle { sequence_number: 2, ..bundle(TD, &[]) };
        assert_eq!(datastore.fetch_bundle(TD).await.unwrap(), Some(left));
    });
}

fn with_keys(keys: Vec<PublicKey>) -> Bundle {
    Bundle { jwt_signing_keys: keys, ..bundle(TD, &[1]) }
}

fn tainted(kid: &str) -> PublicKey {
    PublicKey { tainted_key: true, ..key(kid, 0) }
}

const NO_KEY: &str = "no JWT Key found with provided key ID";

#[test]
fn test_taint_jwt_key() {
    run(async {
        let datastore = namespace().await;
        not_found(datastore.taint_jwt_key(TD, "key-1").await);

        let stored = datastore
            .create_bundle(with_keys(vec![key("key-1", 0), key("twice", 0), key("twice", 5), tainted("key-2")]))
            .await
            .unwrap();
        refused(
            datastore.taint_jwt_key(TD, "twice").await,
            Code::Internal,
            "another JWT Key found with the same KeyID",
        );
        refused(datastore.taint_jwt_key(TD, "no id").await, Code::NotFound, NO_KEY);
        refused(datastore.taint_jwt_key(TD, "key-2").await, Code::InvalidArgument, "key is already tainted");
        assert_eq!(datastore.fetch_bundle(TD).await.unwrap(), Some(stored.clone()));

        assert_eq!(datastore.taint_jwt_key(TD, "key-1").await.unwrap(), tainted("key-1"));
        let mut expected = Bundle { sequence_number: 1, ..stored };
        expected.jwt_signing_keys[0].tainted_key = true;
        assert_eq!(datastore.fetch_bundle(TD).await.unwrap(), Some(expected.clone()));
        refused(datastore.taint_jwt_key(TD, "key-1").await, Code::InvalidArgument, "key is already tainted");
        assert_eq!(datastore.fetch_bundle(TD).await.unwrap(), Some(expected));
    });
}

#[test]
fn test_revoke_jwt_key() {
    run(async {
        let datastore = namespace().await;
        not_found(datastore.revoke_jwt_key(TD, "key-1").await);

        let keys = vec![key("untainted", 0), tainted("key-1"), tainted("twice"), tainted("twice")];
        let stored = datastore.create_bundle(with_keys(keys)).await.unwrap();
        refused(datastore.revoke_jwt_key(TD, "no id").await, Code::NotFound, NO_KEY);
        refused(
            datastore.revoke_jwt_key(TD, "untainted").await,
            Code::InvalidArgument,
            "it is not possible to revoke an untainted key",
        );
        refused(datastore.revoke_jwt_key(TD, "twice").await, Code::Internal, "another key found with the same KeyID");
        assert_eq!(datastore.fetch_bundle(TD).await.unwrap(), Some(stored.clone()));

        assert_eq!(datastore.revoke_jwt_key(TD, "key-1").await.unwrap(), tainted("key-1"));
        let mut expected = Bundle { sequence_number: 1, ..stored };
        expected.jwt_signing_keys.remove(1);
        assert_eq!(datastore.fetch_bundle(TD).await.unwrap(), Some(expected));
        refused(datastore.revoke_jwt_key(TD, "key-1").await, Code::NotFound, NO_KEY);
    });
}

// ---- what the suite does not cover

/// WIT keys take part in everything but tainting and revoking.
#[test]
fn wit_keys_are_no_jwt_keys() {
    run(async {
        let datastore = namespace().await;
        let stored = Bundle { wit_signing_keys: vec![key("wit", 0)], ..bundle(TD, &[1]) };
        assert_eq!(datastore.create_bundle(stored.clone()).await.unwrap(), stored);
        refused(datastore.taint_jwt_key(TD, "wit").await, Code::NotFound, NO_KEY);
        refused(datastore.revoke_jwt_key(TD, "wit").await, Code::NotFound, NO_KEY);
        let appended = Bundle { wit_signing_keys: vec![key("wit", 0), key("wit2", 0)], ..bundle(TD, &[]) };
        let expected =
            Bundle { wit_signing_keys: vec![key("wit", 0), key("wit2", 0)], sequence_number: 1, ..stored.clone() };
        assert_eq!(datastore.append_bundle(appended).await.unwrap(), expected);
        let mask = BundleMask { jwt_signing_keys: true, ..NONE };
        let update = Bundle { wit_signing_keys: vec![], jwt_signing_keys: vec![key("jwt", 0)], ..bundle(TD, &[]) };
        let expected = Bundle { jwt_signing_keys: vec![key("jwt", 0)], ..expected };
        assert_eq!(datastore.update_bundle(update.clone(), Some(mask)).await.unwrap(), expected);
        let mask = BundleMask { wit_signing_keys: true, ..NONE };
        let expected = Bundle { wit_signing_keys: vec![], ..expected };
        assert_eq!(datastore.update_bundle(update, Some(mask)).await.unwrap(), expected);
        assert_eq!(datastore.fetch_bundle(TD).await.unwrap(), Some(expected));
    });
}

/// Quirk 9: two elements are the same only if all of them is.
#[test]
fn append_compares_whole_elements() {
    run(async {
        let datastore = namespace().await;
        let stored = Bundle {
            root_cas: vec![Certificate { tainted_key: true, ..root([1]) }],
            jwt_signing_keys: vec![key("k", 1)],
            ..bundle(TD, &[])
        };
        datastore.create_bundle(stored.clone()).await.unwrap();
        let given = Bundle {
            root_cas: vec![root([1]), root([2]), root([2])],
            jwt_signing_keys: vec![key("k", 2), key("k", 1)],
            ..bundle(TD, &[])
        };
        let expected = Bundle {
            root_cas: vec![stored.root_cas[0].clone(), root([1]), root([2]), root([2])],
            jwt_signing_keys: vec![key("k", 1), key("k", 2)],
            sequence_number: 1,
            ..bundle(TD, &[])
        };
        assert_eq!(datastore.append_bundle(given).await.unwrap(), expected);
    });
}

#[test]
fn what_is_not_known_of_a_bundle_is_kept() {
    run(async {
        let datastore = namespace().await;
        // Field 15: a varint, in the message and in its parts.
        let unknown = vec![0x78, 1];
        let stored = Bundle {
            unknown_fields: unknown.clone(),
            root_cas: vec![Certificate { unknown_fields: unknown.clone(), ..root([1]) }],
            jwt_signing_keys: vec![PublicKey { unknown_fields: unknown, ..key("k", 0) }],
            ..bundle(TD, &[])
        };
        assert_eq!(datastore.create_bundle(stored.clone()).await.unwrap(), stored);
        datastore.taint_jwt_key(TD, "k").await.unwrap();
        let mut expected = Bundle { sequence_number: 1, ..stored };
        expected.jwt_signing_keys[0].tainted_key = true;
        assert_eq!(datastore.fetch_bundle(TD).await.unwrap(), Some(expected));
    });
}

#[test]
fn a_trust_domain_may_be_empty_and_is_compared_byte_for_byte() {
    run(async {
        let datastore = namespace().await;
        for id in ["", "a", "A", "a ", "\u{e9}", "e\u{301}"] {
            datastore.create_bundle(bundle(id, &[1])).await.unwrap();
        }
        assert_eq!(datastore.count_bundles().await.unwrap(), 6);
        assert_eq!(datastore.fetch_bundle("A").await.unwrap(), Some(bundle("A", &[1])));
        not_found(datastore.delete_bundle("spiffe://a", Default::default()).await);
    });
}

#[test]
fn a_request_needs_a_bundle() {
    run(async {
        let datastore = namespace().await;
        let context = Some(RequestContext { namespace: datastore.name().into(), request_id: vec![] });
        // The four requests have the same shape.
        let request = CreateBundleRequest { context, bundle: None };
        for method in ["CreateBundle", "SetBundle", "UpdateBundle", "AppendBundle"] {
            let _case = case(method);
            let answer: Result<CreateBundleResponse, _> =
                raw::unary(&shared().channel, raw::DATASTORE, method, &request).await;
            status(answer, Code::Unknown, "datastore-sql: missing bundle in request");
        }
    });
}

/// A missing bundle is told before an unknown mode is looked at, which counts as restrict.
#[test]
fn an_unknown_mode_of_deletion_restricts() {
    use steeple_wire::spire::v1::{DeleteBundleRequest, DeleteBundleResponse};
    run(async {
        let datastore = namespace().await;
        let context = Some(RequestContext { namespace: datastore.name().into(), request_id: vec![] });
        let request = DeleteBundleRequest { context, trust_domain_id: TD.into(), mode: 77 };
        let delete = async || -> Result<DeleteBundleResponse, _> {
            raw::unary(&shared().channel, raw::DATASTORE, "DeleteBundle", &request).await
        };
        status(delete().await, Code::NotFound, NOT_FOUND);
        datastore.create_bundle(bundle(TD, &[1])).await.unwrap();
        let federated = steeple_client::types::RegistrationEntry {
            federates_with: vec![TD.into()],
            ..steeple_tests::records::entry("p", "w", steeple_tests::records::letters("A"))
        };
        let entry = datastore.create_registration_entry(federated).await.unwrap();
        let text = "datastore-sql: cannot delete bundle; federated with 1 registration entries";
        status(delete().await, Code::FailedPrecondition, text);
        datastore.delete_registration_entry(entry.entry_id).await.unwrap();
        delete().await.unwrap();
    });
}
