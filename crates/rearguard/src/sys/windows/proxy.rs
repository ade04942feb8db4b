//! The proxy that the environment names, by the variables that curl takes: WinHTTP by itself knows the system's settings alone.

/// Which proxy a host is reached by.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Proxy {
    /// The environment says nothing, or that there is to be none for this host; the system decides.
    OfTheSystem,
    /// This one, as WinHTTP names it: host and port.
    Named(String),
    /// One that isn't spoken to by plain HTTP, as a SOCKS server; WinHTTP knows no other.
    OfAnotherKind,
}

/// Chooses by the values of variables, whose names are the same in lower and in upper case here.
pub(super) fn choose(
    is_secure: bool,
    host: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Proxy {
    let value = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
    if value("no_proxy").is_some_and(|names| is_named(&names, host)) {
        return Proxy::OfTheSystem;
    }
    let own = if is_secure {
        value("https_proxy")
    } else {
        // Below a web server it is what a client has sent as the header `Proxy` (CVE-2016-5385).
        value("http_proxy").filter(|_| value("REQUEST_METHOD").is_none())
    };
    let Some(proxy) = own.or_else(|| value("all_proxy")) else { return Proxy::OfTheSystem };
    let proxy = proxy.trim();
    let address = match proxy.split_once("://") {
        Some((scheme, address)) if scheme.eq_ignore_ascii_case("http") => address,
        Some(_) => return Proxy::OfAnotherKind,
        None => proxy,
    };
    let address = address.split('/').next().unwrap_or_default();
    // What stands in front of an @ is a name and a password, which WinHTTP doesn't take from here.
    Proxy::Named(address.rsplit('@').next().unwrap_or_default().to_owned())
}

/// Whether a list of names has this host, or a domain that it is in.
fn is_named(names: &str, host: &str) -> bool {
    let bare = |name: &str| name.trim_matches(['[', ']']).to_ascii_lowercase();
    let host = bare(host);
    names.split([',', ' ']).map(str::trim).filter(|name| !name.is_empty()).any(|name| {
        let name = bare(name.trim_start_matches('.'));
        let domain = host.strip_suffix(&*name);
        name == "*" || domain.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(url: (bool, &str), variables: &[(&str, &str)]) -> Proxy {
        choose(url.0, url.1, &|name| {
            let found = variables.iter().find(|(other, _)| *other == name);
            found.map(|(_, value)| (*value).to_owned())
        })
    }

    // Goal: each variable counts for its own kind of URL, and says where the proxy is in every form that users write.
    #[test]
    fn variables_name_a_proxy() {
        let named = |proxy: &str| Proxy::Named(proxy.to_owned());
        let (secure, plain) = ((true, "h"), (false, "h"));
        let both = [("https_proxy", "s:1"), ("http_proxy", "p:2")];
        assert_eq!(chosen(secure, &both), named("s:1"));
        assert_eq!(chosen(plain, &both), named("p:2"));
        assert_eq!(chosen(secure, &both[1..]), Proxy::OfTheSystem);
        assert_eq!(chosen(secure, &[("https_proxy", " "), ("all_proxy", "a:3")]), named("a:3"));
        for value in ["a:3", "http://a:3", "HTTP://a:3/", "http://u:p@a:3/x"] {
            assert_eq!(chosen(plain, &[("all_proxy", value)]), named("a:3"), "{value}");
        }
        assert_eq!(chosen(plain, &[("all_proxy", "http://[::1]:3/")]), named("[::1]:3"));
        assert_eq!(chosen(plain, &[("all_proxy", "socks5://a:3")]), Proxy::OfAnotherKind);
        assert_eq!(chosen(secure, &[("https_proxy", "https://a:3")]), Proxy::OfAnotherKind);
    }

    // Goal: a host that is to be reached without the proxy is, and one whose name only looks alike isn't.
    #[test]
    fn some_hosts_have_none() {
        for (names, host, has_proxy) in [
            ("h", "h", false),
            ("a, .example.org", "x.Example.org", false),
            ("example.org", "example.org", false),
            ("ample.org", "example.org", true),
            ("*", "h", false),
            ("::1", "::1", false),
            ("[::1]", "::1", false),
            ("a b", "b", false),
            (",", "h", true),
        ] {
            let variables = [("all_proxy", "a:3"), ("no_proxy", names)];
            let proxy = chosen((true, host), &variables);
            assert_eq!(proxy != Proxy::OfTheSystem, has_proxy, "{names} {host}");
        }
    }

    // Goal: a client of a web server can't choose the proxy of the programs below it.
    #[test]
    fn a_header_is_no_variable() {
        let variables = [("http_proxy", "evil:1"), ("REQUEST_METHOD", "GET")];
        assert_eq!(chosen((false, "h"), &variables), Proxy::OfTheSystem);
    }
}
