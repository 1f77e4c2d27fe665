use steeple_client::types::{AdditionalAttributes, RegistrationEntry, RegistrationEntryMask};
use steeple_tests::check::{case, refused};
use steeple_tests::records::{entry, entry_event_ids, selector};
use steeple_tests::server::{namespace, run};
use tonic::Code;

const TOO_LARGE: &str = "datastore-validation: invalid registration entry: additional attributes size exceeds the \
                         maximum allowed size of 65535 bytes";

fn with(attributes: Option<AdditionalAttributes>) -> RegistrationEntry {
    RegistrationEntry { additional_attributes: attributes, ..entry("p", "w", vec![selector("a", "1")]) }
}

/// Encoded field 15 of `bytes` bytes altogether (more than 130).
fn unknown_field(bytes: usize) -> Vec<u8> {
    let mut field = vec![0x7a];
    let mut length = bytes - 4;
    for _ in 0..2 {
        field.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    field.push(u8::try_from(length).unwrap());
    field.resize(bytes, 7);
    field
}

#[test]
fn attributes_are_kept_with_what_is_not_known_of_them() {
    run(async {
        let datastore = namespace().await;
        let attributes = AdditionalAttributes {
            disable_x509_svid_prefetch: true,
            jwt_svid_include_jti: true,
            unknown_fields: unknown_field(200),
        };
        let created = datastore.create_registration_entry(with(Some(attributes.clone()))).await.unwrap();
        assert_eq!(created.additional_attributes, Some(attributes));
        assert_eq!(datastore.fetch_registration_entry(created.entry_id.as_str()).await.unwrap(), Some(created));
    });
}

/// Quirk 24.
#[test]
fn attributes_that_say_nothing_read_back_as_absent() {
    run(async {
        let datastore = namespace().await;
        let created = datastore.create_registration_entry(with(Some(AdditionalAttributes::default()))).await.unwrap();
        assert_eq!(created.additional_attributes, None);
        let update =
            RegistrationEntry { additional_attributes: Some(AdditionalAttributes::default()), ..created.clone() };
        let updated = datastore.update_registration_entry(update, None).await.unwrap();
        assert_eq!(updated.additional_attributes, None);
    });
}

#[test]
fn an_update_sets_clears_or_leaves_attributes() {
    run(async {
        let datastore = namespace().await;
        let jti = AdditionalAttributes { jwt_svid_include_jti: true, ..Default::default() };
        let prefetch = AdditionalAttributes { disable_x509_svid_prefetch: true, ..Default::default() };
        let created = datastore.create_registration_entry(with(Some(jti.clone()))).await.unwrap();
        let set = Some(RegistrationEntryMask { additional_attributes: true, ..Default::default() });
        let leave = Some(RegistrationEntryMask::default());
        let steps = [
            ("mask false", Some(prefetch.clone()), leave, Some(jti.clone())),
            ("mask true", Some(prefetch.clone()), set, Some(prefetch.clone())),
            ("mask true without attributes", None, set, None),
            ("nil mask", Some(jti.clone()), None, Some(jti)),
            ("nil mask without attributes", None, None, None),
        ];
        for (number, (name, given, mask, expected)) in steps.into_iter().enumerate() {
            let _case = case(name);
            let update = RegistrationEntry { additional_attributes: given, ..created.clone() };
            let updated = datastore.update_registration_entry(update, mask).await.unwrap();
            assert_eq!(updated.additional_attributes, expected);
            assert_eq!(updated.revision_number, i64::try_from(number).unwrap() + 1);
        }
    });
}

#[test]
fn attributes_have_a_size_limit() {
    run(async {
        let datastore = namespace().await;
        let sized = |bytes| Some(AdditionalAttributes { unknown_fields: unknown_field(bytes), ..Default::default() });
        refused(datastore.create_registration_entry(with(sized(65_536))).await, Code::InvalidArgument, TOO_LARGE);
        let created = datastore.create_registration_entry(with(sized(65_535))).await.unwrap();
        let update = RegistrationEntry { additional_attributes: sized(65_536), ..created.clone() };
        refused(datastore.update_registration_entry(update.clone(), None).await, Code::InvalidArgument, TOO_LARGE);
        // Out of scope it is not looked at.
        let mask = Some(RegistrationEntryMask { hint: true, ..Default::default() });
        let updated = datastore.update_registration_entry(update, mask).await.unwrap();
        assert_eq!(updated, RegistrationEntry { revision_number: 1, ..created.clone() });
        assert_eq!(entry_event_ids(&datastore).await, [1, 2]);
        // A similar entry is returned before the size is looked at (7.3).
        assert_eq!(datastore.create_registration_entry(with(sized(65_536))).await.unwrap().entry_id, created.entry_id);
    });
}

/// Quirk 6, kept: what creation forbids, an update may bring about.
#[test]
fn an_update_may_combine_store_svid_with_disabled_prefetch() {
    run(async {
        let datastore = namespace().await;
        let prefetch = AdditionalAttributes { disable_x509_svid_prefetch: true, ..Default::default() };
        let created = datastore.create_registration_entry(with(Some(prefetch.clone()))).await.unwrap();
        let update = RegistrationEntry { store_svid: true, ..created };
        let updated = datastore.update_registration_entry(update, None).await.unwrap();
        assert_eq!((updated.store_svid, updated.additional_attributes), (true, Some(prefetch)));
    });
}
