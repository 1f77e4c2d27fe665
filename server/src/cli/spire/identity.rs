//! Selectors, SPIFFE IDs and trust domains as people write them.

use steeple_client::types::Selector;

const SCHEME: &str = "spiffe://";

/// Reads `type:value`, where the value may have colons of its own.
pub(super) fn parse_selector(text: &str) -> Result<Selector, String> {
    match text.split_once(':') {
        Some((kind, value)) if !kind.is_empty() && !value.is_empty() => {
            Ok(Selector { r#type: kind.to_owned(), value: value.to_owned() })
        }
        _ => Err(format!("`{text}` is not a selector; write type:value, for example unix:uid:1000")),
    }
}

/// Writes selectors one after the other.
pub(super) fn selectors_text(selectors: &[Selector]) -> String {
    let texts: Vec<_> = selectors.iter().map(|selector| format!("{}:{}", selector.r#type, selector.value)).collect();
    texts.join(", ")
}

/// Reads a SPIFFE ID. The store takes any text; a typing error is better found here.
pub(super) fn parse_spiffe_id(text: &str) -> Result<String, String> {
    if trust_domain_of(text).is_some() {
        return Ok(text.to_owned());
    }
    Err(format!("`{text}` is not a SPIFFE ID; write spiffe://TRUST-DOMAIN/PATH"))
}

/// The trust domain's name in a SPIFFE ID.
pub(super) fn trust_domain_of(spiffe_id: &str) -> Option<&str> {
    let name = spiffe_id.strip_prefix(SCHEME)?.split('/').next()?;
    is_trust_domain_name(name).then_some(name)
}

fn is_trust_domain_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._".contains(&byte);
    !name.is_empty() && name.bytes().all(allowed)
}

/// Reads a trust domain, with or without `spiffe://`, and gives its id.
pub(super) fn parse_trust_domain_id(text: &str) -> Result<String, String> {
    Ok(format!("{SCHEME}{}", parse_trust_domain_name(text)?))
}

/// Reads a trust domain, with or without `spiffe://`, and gives its name.
pub(super) fn parse_trust_domain_name(text: &str) -> Result<String, String> {
    let name = text.strip_prefix(SCHEME).unwrap_or(text);
    if is_trust_domain_name(name) {
        return Ok(name.to_owned());
    }
    Err(format!("`{text}` is not a trust domain; write for example td.example or spiffe://td.example"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_cut_at_the_first_colon() {
        let selector = parse_selector("k8s:pod-label:app:web").unwrap();
        assert_eq!((selector.r#type.as_str(), selector.value.as_str()), ("k8s", "pod-label:app:web"));
        assert_eq!(selectors_text(&[selector]), "k8s:pod-label:app:web");
        let nested = parse_selector("spiffe_id:spiffe://td.example/a").unwrap();
        assert_eq!(nested.value, "spiffe://td.example/a");
        for text in ["", "unix", ":uid:1000", "unix:", ":"] {
            assert!(parse_selector(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn spiffe_ids_need_a_trust_domain() {
        for text in ["spiffe://td.example/a/b", "spiffe://td.example"] {
            assert_eq!(parse_spiffe_id(text).as_deref(), Ok(text));
        }
        for text in ["", "td.example/a", "spiffe://", "spiffe:///a", "spiffe://TD/a", "https://td.example/a"] {
            assert!(parse_spiffe_id(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn trust_domains_may_be_names_or_ids() {
        assert_eq!(parse_trust_domain_id("td.example").as_deref(), Ok("spiffe://td.example"));
        assert_eq!(parse_trust_domain_id("spiffe://td.example").as_deref(), Ok("spiffe://td.example"));
        assert_eq!(parse_trust_domain_name("spiffe://td.example").as_deref(), Ok("td.example"));
        assert!(parse_trust_domain_id("spiffe://td.example/path").is_err());
    }
}
