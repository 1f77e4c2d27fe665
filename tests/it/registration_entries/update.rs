use steeple_client::types::UpdateRegistrationEntryResponse;
use steeple_client::types::{RegistrationEntry, RegistrationEntryMask, UpdateRegistrationEntryRequest};
use steeple_tests::check::{case, not_found, refused, status};
use steeple_tests::raw;
use steeple_tests::records::{NOW, bundle, entry, entry_event_ids, selector};
use steeple_tests::server::{namespace, run, shared};
use tonic::Code;

const MIXED: &str = "datastore-validation: invalid registration entry: selector types must be the same when store SVID \
                     is enabled";

#[test]
fn test_update_registration_entry() {
    run(async {
        let datastore = namespace().await;
        let request = RegistrationEntry {
            x509_svid_ttl: 1,
            jwt_svid_ttl: 1,
            hint: "internal".into(),
            ..entry(
                "ParentId",
                "SpiffeId",
                vec![selector("Type1", "Value1"), selector("Type2", "Value2"), selector("Type3", "Value3")],
            )
        };
        let created = datastore.create_registration_entry(request).await.unwrap();
        let update = RegistrationEntry {
            x509_svid_ttl: 11,
            jwt_svid_ttl: 21,
            admin: true,
            downstream: true,
            hint: "external".into(),
            revision_number: 70,
            created_at: 3,
            ..created.clone()
        };
        let updated = datastore.update_registration_entry(update.clone(), None).await.unwrap();
        let expected = RegistrationEntry { revision_number: 1, created_at: created.created_at, ..update };
        assert_eq!(updated, expected);
        assert_eq!(datastore.fetch_registration_entry(created.entry_id.as_str()).await.unwrap(), Some(updated.clone()));
        not_found(
            datastore.update_registration_entry(RegistrationEntry { entry_id: "badid".into(), ..updated }, None).await,
        );
        assert_eq!(entry_event_ids(&datastore).await, [1, 2]);
    });
}

#[test]
fn test_update_registration_entry_with_store_svid() {
    run(async {
        let datastore = namespace().await;
        let one_type = vec![selector("Type1", "Value1"), selector("Type1", "Value2"), selector("Type1", "Value3")];
        let created = datastore.create_registration_entry(entry("ParentId", "SpiffeId", one_type)).await.unwrap();
        let update = RegistrationEntry { store_svid: true, ..created };
        let updated = datastore.update_registration_entry(update, None).await.unwrap();
        assert!(updated.store_svid);
        assert_eq!(datastore.fetch_registration_entry(updated.entry_id.as_str()).await.unwrap(), Some(updated.clone()));
        let mixed = RegistrationEntry {
            selectors: vec![selector("Type1", "Value1"), selector("Type2", "Value2")],
            ..updated.clone()
        };
        refused(datastore.update_registration_entry(mixed, None).await, Code::InvalidArgument, MIXED);
        assert_eq!(datastore.fetch_registration_entry(updated.entry_id.as_str()).await.unwrap(), Some(updated));
    });
}

/// What an entry is made into, what comes of it, and which bits the mask has.
struct Row {
    name: &'static str,
    mask: Option<RegistrationEntryMask>,
    update: fn(&mut RegistrationEntry),
    result: Result<fn(&mut RegistrationEntry), &'static str>,
}

const NONE: RegistrationEntryMask = RegistrationEntryMask {
    selectors: false,
    parent_id: false,
    spiffe_id: false,
    x509_svid_ttl: false,
    federates_with: false,
    entry_id: false,
    admin: false,
    downstream: false,
    entry_expiry: false,
    dns_names: false,
    store_svid: false,
    jwt_svid_ttl: false,
    hint: false,
    additional_attributes: false,
};

const fn row(
    name: &'static str,
    mask: RegistrationEntryMask,
    update: fn(&mut RegistrationEntry),
    result: Result<fn(&mut RegistrationEntry), &'static str>,
) -> Row {
    Row { name, mask: Some(mask), update, result }
}

fn unchanged(_: &mut RegistrationEntry) {}

fn spiffe_id(entry: &mut RegistrationEntry) {
    entry.spiffe_id = "spiffe://example.org/newWorkload".into();
}

fn x509_svid_ttl(entry: &mut RegistrationEntry) {
    entry.x509_svid_ttl = 200;
}

fn jwt_svid_ttl(entry: &mut RegistrationEntry) {
    entry.jwt_svid_ttl = 300;
}

fn selectors(entry: &mut RegistrationEntry) {
    entry.selectors = vec![selector("Type2", "Value2")];
}

fn parent_id(entry: &mut RegistrationEntry) {
    entry.parent_id = "spiffe://example.org/newparent".into();
}

fn federates_with(entry: &mut RegistrationEntry) {
    entry.federates_with = vec!["spiffe://dom2.org".into()];
}

fn admin(entry: &mut RegistrationEntry) {
    entry.admin = true;
}

fn store_svid(entry: &mut RegistrationEntry) {
    entry.store_svid = true;
}

fn entry_expiry(entry: &mut RegistrationEntry) {
    entry.entry_expiry = NOW;
}

fn dns_names(entry: &mut RegistrationEntry) {
    entry.dns_names = vec!["dnsname2".into(), "dnsname1".into()];
}

fn downstream(entry: &mut RegistrationEntry) {
    entry.downstream = true;
}

fn hint(entry: &mut RegistrationEntry) {
    entry.hint = "new hint".into();
}

fn no_spiffe_id(entry: &mut RegistrationEntry) {
    entry.spiffe_id.clear();
}

fn negative_x509(entry: &mut RegistrationEntry) {
    entry.x509_svid_ttl = -1;
}

fn negative_jwt(entry: &mut RegistrationEntry) {
    entry.jwt_svid_ttl = -1;
}

fn no_selectors(entry: &mut RegistrationEntry) {
    entry.selectors.clear();
}

fn mixed_store_svid(entry: &mut RegistrationEntry) {
    entry.store_svid = true;
    entry.selectors = vec![selector("Type1", "Value1"), selector("Type2", "Value2")];
}

fn everything(entry: &mut RegistrationEntry) {
    for change in [
        spiffe_id,
        x509_svid_ttl,
        jwt_svid_ttl,
        selectors,
        parent_id,
        federates_with,
        admin,
        store_svid,
        entry_expiry,
        dns_names,
        downstream,
        hint,
    ] {
        change(entry);
    }
}

const ROWS: &[Row] = &[
    row(
        "Update Spiffe ID, Good Data, Mask True",
        RegistrationEntryMask { spiffe_id: true, ..NONE },
        spiffe_id,
        Ok(spiffe_id),
    ),
    row("Update Spiffe ID, Good Data, Mask False", NONE, spiffe_id, Ok(unchanged)),
    row(
        "Update Spiffe ID, Bad Data, Mask True",
        RegistrationEntryMask { spiffe_id: true, ..NONE },
        no_spiffe_id,
        Err("datastore-validation: invalid registration entry: missing SPIFFE ID"),
    ),
    row("Update Spiffe ID, Bad Data, Mask False", NONE, no_spiffe_id, Ok(unchanged)),
    row(
        "Update X509SvidTtl, Good Data, Mask True",
        RegistrationEntryMask { x509_svid_ttl: true, ..NONE },
        x509_svid_ttl,
        Ok(x509_svid_ttl),
    ),
    row("Update X509SvidTtl, Good Data, Mask False", NONE, x509_svid_ttl, Ok(unchanged)),
    row(
        "Update X509SvidTtl, Bad Data, Mask True",
        RegistrationEntryMask { x509_svid_ttl: true, ..NONE },
        negative_x509,
        Err("datastore-validation: invalid registration entry: X509SvidTtl is not set"),
    ),
    row("Update X509SvidTtl, Bad Data, Mask False", NONE, negative_x509, Ok(unchanged)),
    row(
        "Update JwtSvidTtl, Good Data, Mask True",
        RegistrationEntryMask { jwt_svid_ttl: true, ..NONE },
        jwt_svid_ttl,
        Ok(jwt_svid_ttl),
    ),
    row("Update JwtSvidTtl, Good Data, Mask False", NONE, jwt_svid_ttl, Ok(unchanged)),
    row(
        "Update JwtSvidTtl, Bad Data, Mask True",
        RegistrationEntryMask { jwt_svid_ttl: true, ..NONE },
        negative_jwt,
        Err("datastore-validation: invalid registration entry: JwtSvidTtl is not set"),
    ),
    row("Update JwtSvidTtl, Bad Data, Mask False", NONE, negative_jwt, Ok(unchanged)),
    row(
        "Update Selectors, Good Data, Mask True",
        RegistrationEntryMask { selectors: true, ..NONE },
        selectors,
        Ok(selectors),
    ),
    row("Update Selectors, Good Data, Mask False", NONE, selectors, Ok(unchanged)),
    row(
        "Update Selectors, Bad Data, Mask True",
        RegistrationEntryMask { selectors: true, ..NONE },
        no_selectors,
        Err("datastore-validation: invalid registration entry: missing selector list"),
    ),
    row("Update Selectors, Bad Data, Mask False", NONE, no_selectors, Ok(unchanged)),
    row(
        "Update ParentID, Good Data, Mask True",
        RegistrationEntryMask { parent_id: true, ..NONE },
        parent_id,
        Ok(parent_id),
    ),
    row("Update ParentID, Good Data, Mask False", NONE, parent_id, Ok(unchanged)),
    row(
        "Update FederatesWith, Good Data, Mask True",
        RegistrationEntryMask { federates_with: true, ..NONE },
        federates_with,
        Ok(federates_with),
    ),
    row("Update FederatesWith, Good Data, Mask False", NONE, federates_with, Ok(unchanged)),
    row("Update Admin, Good Data, Mask True", RegistrationEntryMask { admin: true, ..NONE }, admin, Ok(admin)),
    row("Update Admin, Good Data, Mask False", NONE, admin, Ok(unchanged)),
    row(
        "Update StoreSvid, Good Data, Mask True",
        RegistrationEntryMask { store_svid: true, ..NONE },
        store_svid,
        Ok(store_svid),
    ),
    row("Update StoreSvid, Good Data, Mask False", NONE, store_svid, Ok(unchanged)),
    row(
        "Update StoreSvid, Invalid selectors, Mask True",
        RegistrationEntryMask { store_svid: true, selectors: true, ..NONE },
        mixed_store_svid,
        Err(MIXED),
    ),
    row(
        "Update EntryExpiry, Good Data, Mask True",
        RegistrationEntryMask { entry_expiry: true, ..NONE },
        entry_expiry,
        Ok(entry_expiry),
    ),
    row("Update EntryExpiry, Good Data, Mask False", NONE, entry_expiry, Ok(unchanged)),
    row(
        "Update DnsNames, Good Data, Mask True",
        RegistrationEntryMask { dns_names: true, ..NONE },
        dns_names,
        Ok(dns_names),
    ),
    row("Update DnsNames, Good Data, Mask False", NONE, dns_names, Ok(unchanged)),
    row(
        "Update Downstream, Good Data, Mask True",
        RegistrationEntryMask { downstream: true, ..NONE },
        downstream,
        Ok(downstream),
    ),
    row("Update Downstream, Good Data, Mask False", NONE, downstream, Ok(unchanged)),
    row("Update Hint, Good Data, Mask True", RegistrationEntryMask { hint: true, ..NONE }, hint, Ok(hint)),
    row("Update Hint, Good Data, Mask False", NONE, hint, Ok(unchanged)),
    Row { name: "Test With Nil Mask", mask: None, update: everything, result: Ok(everything) },
];

#[test]
fn test_update_registration_entry_with_mask() {
    run(async {
        assert_eq!(ROWS.len(), 34);
        for row in ROWS {
            let _case = case(row.name);
            let datastore = namespace().await;
            for id in ["spiffe://dom1.org", "spiffe://dom2.org"] {
                datastore.create_bundle(bundle(id, &[1])).await.unwrap();
            }
            let old = RegistrationEntry {
                x509_svid_ttl: 1000,
                jwt_svid_ttl: 3000,
                federates_with: vec!["spiffe://dom1.org".into()],
                entry_expiry: 1000,
                dns_names: vec!["dns1".into()],
                hint: "internal".into(),
                ..entry(
                    "spiffe://example.org/oldParentId",
                    "spiffe://example.org/oldSpiffeId",
                    vec![selector("Type1", "Value1")],
                )
            };
            let created = datastore.create_registration_entry(old).await.unwrap();
            let mut update = created.clone();
            (row.update)(&mut update);
            let result = datastore.update_registration_entry(update, row.mask).await;
            let mut expected = created.clone();
            match row.result {
                Ok(change) => {
                    change(&mut expected);
                    expected.revision_number = 1;
                    assert_eq!(result.unwrap(), expected);
                    assert_eq!(entry_event_ids(&datastore).await, [1, 2]);
                }
                Err(text) => {
                    refused(result, Code::InvalidArgument, text);
                    assert_eq!(entry_event_ids(&datastore).await, [1]);
                }
            }
            let stored = datastore.fetch_registration_entry(created.entry_id.as_str()).await.unwrap();
            assert_eq!(stored, Some(expected));
        }
    });
}

// ---- what the suite does not cover

/// Quirk 5: the entry that would result is what is checked.
#[test]
fn store_svid_is_checked_against_stored_selectors() {
    run(async {
        let datastore = namespace().await;
        let mixed = entry("p", "w", vec![selector("Type1", "Value1"), selector("Type2", "Value2")]);
        let created = datastore.create_registration_entry(mixed).await.unwrap();
        let update = RegistrationEntry { store_svid: true, selectors: vec![], ..created.clone() };
        let mask = Some(RegistrationEntryMask { store_svid: true, ..NONE });
        refused(datastore.update_registration_entry(update, mask).await, Code::InvalidArgument, MIXED);

        let stored = RegistrationEntry { store_svid: true, ..entry("p", "x", vec![selector("Type1", "Value1")]) };
        let stored = datastore.create_registration_entry(stored).await.unwrap();
        let update = RegistrationEntry { selectors: created.selectors.clone(), store_svid: false, ..stored };
        let mask = Some(RegistrationEntryMask { selectors: true, ..NONE });
        refused(datastore.update_registration_entry(update, mask).await, Code::InvalidArgument, MIXED);
    });
}

#[test]
fn every_successful_update_counts_and_is_announced() {
    run(async {
        let datastore = namespace().await;
        let created = datastore.create_registration_entry(entry("p", "w", vec![selector("a", "1")])).await.unwrap();
        for revision in 1..=3 {
            let mask = Some(RegistrationEntryMask { entry_id: revision == 2, ..NONE });
            let updated = datastore.update_registration_entry(created.clone(), mask).await.unwrap();
            assert_eq!(updated, RegistrationEntry { revision_number: revision, ..created.clone() });
        }
        assert_eq!(entry_event_ids(&datastore).await, [1, 2, 3, 4]);
    });
}

/// What is wrong with the request comes before whether there is such an entry (7.8).
#[test]
fn checks_have_an_order() {
    run(async {
        let datastore = namespace().await;
        let request =
            UpdateRegistrationEntryRequest { context: super::creation::context(&datastore), entry: None, mask: None };
        let missing: Result<UpdateRegistrationEntryResponse, _> =
            raw::unary(&shared().channel, raw::DATASTORE, "UpdateRegistrationEntry", &request).await;
        status(missing, Code::InvalidArgument, "datastore-validation: invalid request: missing registered entry");
        let mut bad = RegistrationEntry { x509_svid_ttl: -1, jwt_svid_ttl: -1, ..Default::default() };
        let texts = ["missing selector list", "missing SPIFFE ID", "X509SvidTtl is not set", "JwtSvidTtl is not set"];
        for (number, text) in texts.into_iter().enumerate() {
            let text = format!("datastore-validation: invalid registration entry: {text}");
            refused(datastore.update_registration_entry(bad.clone(), None).await, Code::InvalidArgument, &text);
            match number {
                0 => bad.selectors = vec![selector("a", "1")],
                1 => bad.spiffe_id = "w".into(),
                2 => bad.x509_svid_ttl = 0,
                _ => bad.jwt_svid_ttl = 0,
            }
        }
        not_found(datastore.update_registration_entry(bad, None).await);
    });
}
