use steeple_client::types::{CreateJoinTokenRequest, CreateJoinTokenResponse, JoinToken};
use steeple_tests::check::{case, not_found, refused, status};
use steeple_tests::raw;
use steeple_tests::records::{MICROS, NOW};
use steeple_tests::server::{namespace, run, shared};
use steeple_wire::common::v1::RequestContext;
use tonic::Code;

#[test]
fn test_create_join_token() {
    run(async {
        let datastore = namespace().await;
        datastore.create_join_token("foobar", NOW).await.unwrap();
        refused(
            datastore.create_join_token("foobar", NOW + 1).await,
            Code::AlreadyExists,
            "datastore-sql: UNIQUE constraint failed: join_tokens.token",
        );
        let stored = JoinToken { token: "foobar".into(), expires_at: NOW };
        assert_eq!(datastore.fetch_join_token("foobar").await.unwrap(), Some(stored));
    });
}

#[test]
fn test_create_and_fetch_join_token() {
    run(async {
        let datastore = namespace().await;
        assert_eq!(datastore.fetch_join_token("foobar").await.unwrap(), None);
        // Expired tokens are returned like others.
        for (token, expires_at) in [("foobar", NOW), ("expired", 1)] {
            datastore.create_join_token(token, expires_at).await.unwrap();
            let stored = JoinToken { token: token.into(), expires_at };
            assert_eq!(datastore.fetch_join_token(token).await.unwrap(), Some(stored));
        }
    });
}

#[test]
fn test_delete_join_token() {
    run(async {
        let datastore = namespace().await;
        datastore.create_join_token("foobar", NOW).await.unwrap();
        datastore.create_join_token("batbaz", NOW).await.unwrap();
        datastore.delete_join_token("foobar").await.unwrap();
        assert_eq!(datastore.fetch_join_token("foobar").await.unwrap(), None);
        assert!(datastore.fetch_join_token("batbaz").await.unwrap().is_some());
        not_found(datastore.delete_join_token("foobar").await);
    });
}

#[test]
fn test_prune_join_tokens() {
    run(async {
        let datastore = namespace().await;
        datastore.create_join_token("foobar", NOW).await.unwrap();
        for (name, micros, stays) in [
            ("earlier", (NOW - 10) * MICROS, true),
            ("equal", NOW * MICROS, true),
            ("within the second", NOW * MICROS + MICROS - 1, true),
            ("later", (NOW + 1) * MICROS, false),
        ] {
            let _case = case(name);
            assert_eq!(datastore.prune_join_tokens(micros).await.unwrap(), u64::from(!stays));
            assert_eq!(datastore.fetch_join_token("foobar").await.unwrap().is_some(), stays);
        }
    });
}

#[test]
fn text_and_expiry_are_required() {
    run(async {
        let datastore = namespace().await;
        let text = "token and expiry are required";
        refused(datastore.create_join_token("", NOW).await, Code::InvalidArgument, text);
        refused(datastore.create_join_token("foobar", 0).await, Code::InvalidArgument, text);
        let context = Some(RequestContext { namespace: datastore.name().into(), request_id: vec![] });
        let request = CreateJoinTokenRequest { context, join_token: None };
        let answer: Result<CreateJoinTokenResponse, _> =
            raw::unary(&shared().channel, raw::DATASTORE, "CreateJoinToken", &request).await;
        status(answer, Code::InvalidArgument, text);
    });
}
