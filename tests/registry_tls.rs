//! Whom to trust: registries behind TLS with an authority of their own, and who asks for whose
//! certificate.
//!
//! Any kernel: HTTP, and TLS in the program.
//!
//! Read next: `tests/common/certificates.rs`.

mod common;

use common::certificates::Authority;
use common::web::{Answer, Server, honest, plain};
use common::{LeakCheck, Output, Run, TempRoot};

/// Pulls, with HOME in the test's directory.
fn pull(root: &TempRoot, args: &[&str]) -> Output {
    Run::new([&["pull", "--retries", "0"], args].concat())
        .env("GLASSBOX_ROOT", root.join("state"))
        .env("HOME", root.path())
        .env("DOCKER_CONFIG", root.join("docker"))
        .env("REGISTRY_AUTH_FILE", root.join("none"))
        .go()
}

#[test]
fn an_authority_is_trusted_when_its_certificate_was_put_down() {
    let root = TempRoot::new("tls-authority");
    let _leaks = LeakCheck::new(&root);
    let authority = Authority::new();
    let image = plain();
    let server = Server::secure(authority.server(&["127.0.0.1"], None), move |r| {
        honest(&image, r)
    });
    let name = server.name("x");
    // Loopback is plain as long as nothing says otherwise.
    pull(&root, &[&name]).fails(1, &["no answer to GET http://", "does it speak TLS?"]);
    // A directory without the certificate: TLS, and nobody to trust.
    let empty = root.join("empty");
    std::fs::create_dir(&empty).unwrap();
    let empty = empty.display().to_string();
    pull(&root, &["--cert-dir", &empty, &name]).fails(
        1,
        &[
            "UnknownIssuer",
            "ca.crt",
            "--cert-dir",
            "explain registries",
        ],
    );
    let ca = root.write("certs/ca.crt", authority.pem());
    let certs = ca.parent().unwrap().display().to_string();
    pull(&root, &["--cert-dir", &certs, &name]).success();
    // docker's and podman's places, of the user.
    for place in [".docker/certs.d", ".config/containers/certs.d"] {
        let file = format!("{place}/{}/ca.crt", server.address);
        root.write(&file, authority.pem());
        pull(&root, &[&name]).success();
        std::fs::remove_dir_all(root.join(&file).parent().unwrap()).unwrap();
    }
    // A certificate of another authority, and a file that is none.
    root.write("certs/ca.crt", Authority::new().pem());
    pull(&root, &["--cert-dir", &certs, &name]).fails(1, &["certificate"]);
    root.write("certs/ca.crt", "nonsense");
    pull(&root, &["--cert-dir", &certs, &name]).fails(1, &["holds no certificate", "PEM"]);
    pull(&root, &["--cert-dir", "/nonexistent", &name]).fails(
        1,
        &["cannot read the certificates in /nonexistent", "ENOENT"],
    );
}

#[test]
fn a_certificate_must_be_for_the_name_that_was_asked() {
    let root = TempRoot::new("tls-name");
    let _leaks = LeakCheck::new(&root);
    let authority = Authority::new();
    let image = plain();
    let tls = authority.server(&["registry.example"], None);
    let server = Server::secure(tls, move |r| honest(&image, r));
    let ca = root.write("certs/ca.crt", authority.pem());
    let certs = ca.parent().unwrap().display().to_string();
    let refused = pull(&root, &["--cert-dir", &certs, &server.name("x")]);
    refused.fails(1, &["certificate", "is for other names"]);
}

/// docker, podman, skopeo and curl take what `openssl req -x509` makes, where it was put down.
#[test]
fn a_certificate_that_signs_itself_is_taken_when_it_was_put_down_itself() {
    let root = TempRoot::new("tls-itself");
    let _leaks = LeakCheck::new(&root);
    let serve = |authority: &Authority| {
        let image = plain();
        Server::secure(authority.itself(), move |r| honest(&image, r))
    };
    let trusting = |pem: &str| {
        let ca = root.write("certs/ca.crt", pem);
        ca.parent().unwrap().display().to_string()
    };
    let names = &["127.0.0.1", "localhost"];
    let own = Authority::with_names(names);
    let server = serve(&own);
    let certs = trusting(&own.pem());
    pull(&root, &["--cert-dir", &certs, &server.name("x")]).success();
    // Another one with the same names is not that one, and an authority's own is not it either.
    for other in [Authority::with_names(names), Authority::new()] {
        let certs = trusting(&other.pem());
        pull(&root, &["--cert-dir", &certs, &server.name("x")]).fails(
            1,
            &["CaUsedAsEndEntity", "itself what lies in", "--cert-dir"],
        );
    }
    // For another name.
    let other = Authority::with_names(&["registry.example"]);
    let server = serve(&other);
    let certs = trusting(&other.pem());
    pull(&root, &["--cert-dir", &certs, &server.name("x")])
        .fails(1, &["not valid for name", "is for other names"]);
    // Its time is over.
    let old = Authority::expired(names);
    let server = serve(&old);
    let certs = trusting(&old.pem());
    pull(&root, &["--cert-dir", &certs, &server.name("x")])
        .fails(1, &["certificate expired", "needs a new certificate"]);
}

#[test]
fn a_registry_may_want_our_certificate() {
    let root = TempRoot::new("tls-client");
    let _leaks = LeakCheck::new(&root);
    let (authority, ours) = (Authority::new(), Authority::new());
    let image = plain();
    let tls = authority.server(&["127.0.0.1"], Some(&ours));
    let server = Server::secure(tls, move |r| honest(&image, r));
    let name = server.name("x");
    let ca = root.write("certs/ca.crt", authority.pem());
    let certs = ca.parent().unwrap().display().to_string();
    let with = ["--cert-dir", certs.as_str(), name.as_str()];
    pull(&root, &with).fails(1, &["no answer"]);
    let pair = ours.issue(&["me"]);
    root.write("certs/me.cert", &pair.cert);
    pull(&root, &with).fails(1, &["me.key", "needs its key beside it"]);
    root.write("certs/me.key", "nonsense");
    pull(&root, &with).fails(1, &["holds no key"]);
    root.write("certs/me.key", &pair.key);
    pull(&root, &with).success();
}

#[test]
fn insecure_is_plain_and_plain_is_told_from_tls() {
    let root = TempRoot::new("tls-insecure");
    let _leaks = LeakCheck::new(&root);
    let image = plain();
    let server = Server::new(move |r| honest(&image, r));
    let certs = root.join("certs");
    std::fs::create_dir(&certs).unwrap();
    let certs = certs.display().to_string();
    let name = server.name("x");
    pull(&root, &["--cert-dir", &certs, &name])
        .fails(1, &["no answer to GET https://", "--insecure"]);
    pull(&root, &["--cert-dir", &certs, "--insecure", &name]).success();
}

#[test]
fn nothing_leads_from_tls_to_a_plain_server() {
    let root = TempRoot::new("tls-downgrade");
    let _leaks = LeakCheck::new(&root);
    let image = plain();
    let elsewhere = image.clone();
    let other = Server::new(move |r| honest(&elsewhere, r));
    let authority = Authority::new();
    let there = other.address.clone();
    let server = Server::secure(authority.server(&["127.0.0.1"], None), move |r| {
        match r.path.contains("/blobs/") {
            true => Answer::status(307, &[("Location", &format!("http://{there}{}", r.path))]),
            false => honest(&image, r),
        }
    });
    let ca = root.write("certs/ca.crt", authority.pem());
    let certs = ca.parent().unwrap().display().to_string();
    pull(&root, &["--cert-dir", &certs, &server.name("x")])
        .fails(1, &["from TLS to a plain server"]);
    assert!(other.seen().is_empty());
    // Nor does a password go to a plain token server.
    let there = other.address.clone();
    let server = Server::secure(authority.server(&["127.0.0.1"], None), move |_| {
        let wants = format!("Bearer realm=\"http://{there}/token\"");
        Answer::status(401, &[("WWW-Authenticate", &wants)])
    });
    Run::new([
        "login",
        "-u",
        "me",
        "--password-stdin",
        "--cert-dir",
        &certs,
        &server.address,
    ])
    .stdin("secret")
    .env("DOCKER_CONFIG", root.join("docker"))
    .go()
    .fails(1, &["the password sent in clear", "nothing was sent"]);
    assert!(other.seen().is_empty());
}
