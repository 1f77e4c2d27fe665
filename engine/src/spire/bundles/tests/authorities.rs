//! Authorities that are tainted and revoked.

use super::*;

fn authorities(roots: Vec<Certificate>) -> Datastore {
    holding(Bundle { trust_domain_id: TD.into(), root_cas: roots, sequence_number: 4, ..Bundle::default() })
}

fn roots_of(store: &Datastore) -> (Vec<Certificate>, u64) {
    let bundle = fetch(store, TD).unwrap();
    (bundle.root_cas, bundle.sequence_number)
}

#[test]
fn taint_and_revoke_x509() {
    let (a, b) = (authority(&[0x0a, 0xff], 1_000), authority(&[0xbb], 1_000));
    let mut store = authorities(vec![root(a.clone()), root(b.clone()), root(a.clone())]);
    assert_eq!(store.submit(taint_x509("0aff")), Answer::Nothing);
    let (tainted_a, plain_b) = (tainted_root(a), root(b));
    assert_eq!(roots_of(&store), (vec![tainted_a.clone(), plain_b.clone(), tainted_a], 5));
    let tainted = refusal(Code::InvalidArgument, "root CA is already tainted");
    assert_eq!(store.refuse(taint_x509("0aff")), tainted);
    let untainted = refusal(Code::InvalidArgument, "it is not possible to revoke an untainted root CA");
    assert_eq!(store.refuse(revoke_x509("bb")), untainted);
    assert_eq!(store.submit(revoke_x509("0aff")), Answer::Nothing);
    assert_eq!(roots_of(&store), (vec![plain_b], 6));

    store.submit(taint_x509("bb"));
    store.submit(revoke_x509("bb"));
    assert_eq!(roots_of(&store), (vec![], 8), "the last authority may be revoked");
}

#[test]
fn x509_authorities_that_are_not_there() {
    let mut store = Datastore::new();
    assert_eq!(store.refuse(taint_x509("aa")), not_found());
    assert_eq!(store.refuse(revoke_x509("aa")), not_found());
    let mut store = authorities(vec![root(authority(&[0xaa], 1_000))]);
    for id in ["bb", "AA", "a", ""] {
        let text = "no ca found with provided subject key ID";
        assert_eq!(store.refuse(taint_x509(id)), refusal(Code::NotFound, text));
        let text = "no root CA found with provided subject key ID";
        assert_eq!(store.refuse(revoke_x509(id)), refusal(Code::NotFound, text));
    }
}

#[test]
fn x509_authorities_that_cannot_be_read() {
    let good = authority(&[0xaa], 1_000);
    let chain = [good.clone(), good.clone()].concat();
    for (bytes, detail) in [
        (b"malformed certificate".to_vec(), "x509: malformed certificate"),
        (vec![], "x509: malformed certificate"),
        (good[..good.len() - 1].to_vec(), "x509: malformed certificate"),
        (chain, "x509: trailing data"),
    ] {
        for roots in [vec![root(bytes.clone())], vec![root(good.clone()), root(bytes.clone())]] {
            let mut store = authorities(roots);
            let text = format!("failed to parse rootCA: {detail}");
            assert_eq!(store.refuse(taint_x509("aa")), refusal(Code::Internal, &text));
        }
        let mut store = authorities(vec![tainted_root(good.clone()), root(bytes)]);
        let text = format!("failed to parse root CA: {detail}");
        assert_eq!(store.refuse(revoke_x509("aa")), refusal(Code::Internal, &text));
    }
    let mut store = authorities(vec![root([0x30, 0x03, 0x02, 0x01, 0x05])]);
    let (code, text) = store.refuse(taint_x509("aa"));
    assert_eq!(code, Code::Internal);
    assert!(text.starts_with("failed to parse rootCA: x509: ") && !text.contains("malformed certificate"), "{text}");

    // What is found first counts.
    let mut store = authorities(vec![tainted_root(good.clone()), root(*b"A")]);
    assert_eq!(store.refuse(taint_x509("aa")).1, "root CA is already tainted");
    let mut store = authorities(vec![root(good), root(*b"A")]);
    assert_eq!(store.refuse(revoke_x509("aa")).1, "it is not possible to revoke an untainted root CA");
}

#[test]
fn a_certificate_without_subject_key_id_has_the_empty_one() {
    let mut store = authorities(vec![root(authority(&[0xaa], 1_000)), root(leaf(1_000, 0))]);
    assert_eq!(store.submit(taint_x509("")), Answer::Nothing);
    let (roots, _) = roots_of(&store);
    assert_eq!((roots[0].tainted_key, roots[1].tainted_key), (false, true));
}

#[test]
fn certificates_are_read_whatever_they_are_for() {
    for (der, id, not_after) in [
        (authority(&[0x00, 0x1f], 123), "001f", 123),
        (certificate(IsCa::ExplicitNoCa, &[0x07], 5, 1), "07", 5),
        (leaf(9, 0), "", 9),
        // After 2049 the time is written in another form.
        (leaf(4_000_000_000, u64::MAX), "", 4_000_000_000),
    ] {
        assert_eq!(certificates::subject_key_id(&der).as_deref(), Ok(id));
        assert_eq!(certificates::not_after_times(&der), Ok(vec![not_after]));
    }
}

/// Whatever bytes a bundle holds, reading them must come back with an answer: it happens on the deciding leader.
#[test]
fn damaged_certificates_are_refused_or_read() {
    let good = authority(&[0xaa], 1_000);
    for place in 0..good.len() {
        let _ = certificates::subject_key_id(&good[..place]).unwrap_err();
        for byte in [0x00, 0x7f, 0x80, 0x84, 0xff, good[place] ^ 1] {
            let mut damaged = good.clone();
            damaged[place] = byte;
            let (one, all) = (certificates::subject_key_id(&damaged), certificates::not_after_times(&damaged));
            assert!(
                all.is_ok() || one.is_err(),
                "only one of two readers refuses byte {place} = {byte}: {one:?} {all:?}"
            );
        }
    }
}

fn keys(keys: Vec<PublicKey>) -> Datastore {
    holding(Bundle { trust_domain_id: TD.into(), jwt_signing_keys: keys, sequence_number: 4, ..Bundle::default() })
}

fn keys_of(store: &Datastore) -> (Vec<PublicKey>, u64) {
    let bundle = fetch(store, TD).unwrap();
    (bundle.jwt_signing_keys, bundle.sequence_number)
}

#[test]
fn taint_and_revoke_jwt() {
    let mut store = keys(vec![key("a", 0), key("b", 0), key("c", 0)]);
    assert_eq!(store.submit(taint_jwt("b")), Answer::Key(tainted_key("b")));
    assert_eq!(keys_of(&store), (vec![key("a", 0), tainted_key("b"), key("c", 0)], 5));
    assert_eq!(store.refuse(taint_jwt("b")), refusal(Code::InvalidArgument, "key is already tainted"));
    let untainted = refusal(Code::InvalidArgument, "it is not possible to revoke an untainted key");
    assert_eq!(store.refuse(revoke_jwt("a")), untainted);
    assert_eq!(store.submit(revoke_jwt("b")), Answer::Key(tainted_key("b")));
    assert_eq!(keys_of(&store), (vec![key("a", 0), key("c", 0)], 6));
}

#[test]
fn jwt_keys_that_are_not_there_or_not_alone() {
    let mut store = Datastore::new();
    assert_eq!(store.refuse(taint_jwt("a")), not_found());
    assert_eq!(store.refuse(revoke_jwt("a")), not_found());

    let absent = || refusal(Code::NotFound, "no JWT Key found with provided key ID");
    let wit = Bundle { wit_signing_keys: vec![tainted_key("a")], ..bundle(TD, b"A") };
    for mut store in [keys(vec![key("b", 0)]), holding(wit)] {
        assert_eq!(store.refuse(taint_jwt("a")), absent());
        assert_eq!(store.refuse(revoke_jwt("a")), absent());
    }
    let mut store = keys(vec![key("a", 0), key("b", 0), key("a", 1)]);
    assert_eq!(store.refuse(taint_jwt("a")), refusal(Code::Internal, "another JWT Key found with the same KeyID"));
    let mut store = keys(vec![key("a", 0), tainted_key("a")]);
    assert_eq!(store.refuse(taint_jwt("a")).1, "key is already tainted");
    assert_eq!(store.refuse(revoke_jwt("a")).1, "it is not possible to revoke an untainted key");
    let mut store = keys(vec![tainted_key("a"), key("a", 0)]);
    assert_eq!(store.refuse(revoke_jwt("a")), refusal(Code::Internal, "another key found with the same KeyID"));
}
