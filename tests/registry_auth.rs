//! Who may: the bearer token dance, docker's and podman's files, credential helpers, the login.
//!
//! Any kernel: HTTP, and files of the user.
//!
//! What it does: a registry and a token server in the test, and a home directory of the test's own.
//!
//! Read next: `tests/common/web.rs`.

mod common;

use common::web::{Answer, Image, Request, Server, honest, layered, plain, tar};
use common::{LeakCheck, Output, Run, Screen, TempRoot};
use glassbox::spec::digest::Digest;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A home with docker's and podman's files in it.
struct Home {
    _leaks: LeakCheck,
    root: TempRoot,
}

impl Home {
    fn new(name: &str) -> Home {
        let root = TempRoot::new(name);
        Home {
            _leaks: LeakCheck::new(&root),
            root,
        }
    }
    fn command(&self, args: &[&str]) -> Run {
        let path = std::env::var("PATH").unwrap_or_default();
        Run::new(args)
            .env("GLASSBOX_ROOT", self.root.join("state"))
            .env("DOCKER_CONFIG", self.root.join("docker"))
            .env("REGISTRY_AUTH_FILE", self.root.join("auth.json"))
            .env("HOME", self.root.path())
            .env(
                "PATH",
                format!("{}:{path}", self.root.join("bin").display()),
            )
    }
    fn run(&self, args: &[&str]) -> Output {
        self.command(args).go()
    }
    fn login(&self, address: &str, password: &str) -> Output {
        let args = ["login", "-u", "me", "--password-stdin", address];
        self.command(&args).stdin(password).go()
    }
    fn config(&self) -> serde_json::Value {
        let text = std::fs::read(self.root.join("docker/config.json")).expect("config.json");
        serde_json::from_slice(&text).expect("JSON")
    }
}

/// `me:secret`
const BASIC: &str = "Basic bWU6c2VjcmV0";

/// A registry that lets in who has `token`, and sends others to a token server.
fn registry(
    image: Image,
    realm: String,
    token: impl Fn() -> String + Send + Sync + 'static,
) -> Server {
    Server::new(move |request| {
        if request.header("authorization") == Some(&format!("Bearer {}", token())) {
            return honest(&image, request);
        }
        let wants = format!(
            "Bearer realm=\"{realm}\",service=\"the, registry\",scope=\"repository:x:pull\",error=\"invalid_token\""
        );
        Answer::status(401, &[("WWW-Authenticate", &wants)])
    })
}

fn json(text: &str) -> Answer {
    Answer::ok("application/json", text.as_bytes())
}

fn several_layers() -> Image {
    let layers: Vec<_> = (0..5u8)
        .map(|i| {
            let layer = tar(&[(&format!("f{i}"), &[i; 100])]);
            let id = Digest::sha256(&layer).to_string();
            ("application/vnd.oci.image.layer.v1.tar", layer, id)
        })
        .collect();
    layered(&layers, "")
}

#[test]
fn a_token_is_fetched_once_for_all_layers_and_with_the_password_of_docker() {
    let home = Home::new("auth-bearer");
    let tokens = Server::new(|request| match request.header("authorization") {
        Some(BASIC) => json(r#"{"access_token":"good","expires_in":300}"#),
        None => json(r#"{"token":"anonymous"}"#),
        Some(_) => Answer::status(401, &[]),
    });
    let realm = format!("http://{}/token?fixed=1", tokens.address);
    let server = registry(several_layers(), realm, || "good".into());
    let name = server.name("x:1");
    // Without a password the token server gives a token that the registry does not like.
    home.run(&["pull", &name])
        .fails(1, &["401", "glassbox login"]);
    assert_eq!(server.seen().len(), 2, "a 401 is answered once");
    home.login(&server.address, "wrong")
        .fails(1, &["the token server answers 401"]);
    home.login(&server.address, "secret").success();
    let kept = home.config();
    assert_eq!(kept["auths"][&server.address]["auth"], "bWU6c2VjcmV0");

    let before = tokens.seen().len();
    home.run(&["pull", "--explain", &name])
        .success()
        .err_has("> authorization: Bearer (hidden)");
    let asked = &tokens.seen()[before..];
    assert_eq!(asked.len(), 1, "one dance: {asked:#?}");
    let query = asked[0].path.clone();
    for part in [
        "/token?fixed=1&",
        "service=the%2C%20registry",
        "scope=repository:x:pull",
        "account=me",
    ] {
        let part = part.replace("%2C", ",");
        assert!(query.contains(&part), "{part} is not in {query}");
    }
}

#[test]
fn a_token_that_ran_out_is_replaced_in_the_middle() {
    let home = Home::new("auth-expiry");
    let number = std::sync::Arc::new(AtomicUsize::new(0));
    let given = number.clone();
    let tokens = Server::new(move |_| {
        let n = given.fetch_add(1, Ordering::SeqCst) + 1;
        json(&format!(r#"{{"token":"t{n}"}}"#))
    });
    let image = several_layers();
    let realm = format!("http://{}/", tokens.address);
    let uses = Mutex::new((String::new(), 0));
    // Each token is good for two requests.
    let server = Server::new(move |request| {
        let token = request
            .header("authorization")
            .unwrap_or_default()
            .to_string();
        let mut uses = uses.lock().unwrap();
        if uses.0 != token {
            *uses = (token.clone(), 0);
        }
        uses.1 += 1;
        match token.is_empty() || uses.1 > 2 {
            true => Answer::status(
                401,
                &[("WWW-Authenticate", &format!("Bearer realm=\"{realm}\""))],
            ),
            false => honest(&image, request),
        }
    });
    home.run(&["pull", "--max-concurrent-downloads", "1", &server.name("x")])
        .success();
    assert!(number.load(Ordering::SeqCst) >= 3);
}

#[test]
fn a_login_keeps_an_identity_token_and_buys_others_with_it() {
    let home = Home::new("auth-identity");
    let tokens = Server::new(|request| {
        let body = String::from_utf8_lossy(&request.body).to_string();
        match request.method.as_str() {
            "POST" if body.contains("refresh_token=identity%2B") => {
                assert!(body.contains("grant_type=refresh_token"), "{body}");
                assert!(body.contains("scope=repository:x:pull"), "{body}");
                json(r#"{"access_token":"good"}"#)
            }
            "GET" if request.header("authorization") == Some(BASIC) => {
                assert!(
                    request.path.contains("offline_token=true"),
                    "{}",
                    request.path
                );
                json(r#"{"token":"good","refresh_token":"identity+"}"#)
            }
            _ => Answer::status(401, &[]),
        }
    });
    let server = registry(plain(), format!("http://{}/t", tokens.address), || {
        "good".into()
    });
    home.login(&server.address, "secret").success();
    let kept = home.config();
    assert_eq!(kept["auths"][&server.address]["identitytoken"], "identity+");
    assert!(
        !kept.to_string().contains("bWU6c2VjcmV0"),
        "the password was kept as well"
    );
    home.run(&["pull", &server.name("x")]).success();
    assert_eq!(tokens.count("POST", "/t"), 1);
}

#[test]
fn a_token_server_that_makes_no_sense_is_told_of() {
    let home = Home::new("auth-nonsense");
    for (body, words) in [
        ("no json", "cannot understand the token server's answer"),
        (
            r#"{"expires_in":1}"#,
            "the token server's answer holds no token",
        ),
        (
            r#"{"token":""}"#,
            "the token server's answer holds no token",
        ),
    ] {
        let tokens = Server::new(move |_| json(body));
        let server = registry(plain(), format!("http://{}/", tokens.address), || {
            "good".into()
        });
        home.run(&["pull", &server.name("x")])
            .fails(1, &[words, &server.address]);
    }
    // A realm that nobody serves, and a challenge that is none.
    let server = registry(plain(), "http://127.0.0.1:1/".into(), || "good".into());
    home.run(&["pull", "--retries", "0", &server.name("x")])
        .fails(1, &["cannot get a token", "ECONNREFUSED"]);
    let server = Server::new(|_| Answer::status(401, &[("WWW-Authenticate", "Negotiate")]));
    home.run(&["pull", &server.name("x")]).fails(1, &["401"]);
}

/// A registry that wants `user:password` in base64.
fn basic(wanted: &'static str) -> Server {
    let image = plain();
    Server::new(move |request: &Request| {
        match request.header("authorization") == Some(&format!("Basic {wanted}")) {
            true => honest(&image, request),
            false => Answer::status(401, &[("WWW-Authenticate", "Basic realm=\"x\"")]),
        }
    })
}

#[test]
fn a_helper_keeps_the_password_and_gives_it_back() {
    let home = Home::new("auth-helper");
    let helper = home.root.write(
        "bin/docker-credential-test",
        r#"#!/bin/sh
cd "${0%/*}" || exit 1
case $1 in
store) cat > kept ;;
get) read -r server; [ -e kept ] || { echo "credentials not found in native keychain"; exit 1; }
     echo "$server" >> asked; cat kept ;;
erase) cat > erased; rm kept ;;
esac
"#,
    );
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).unwrap();
    let server = basic("bWU6c2VjcmV0");
    let config = format!(r#"{{"credHelpers":{{"{}":"test"}}}}"#, server.address);
    home.root.write("docker/config.json", &config);
    let name = server.name("x");
    // What the helper does not have is no error, but a request without a password.
    home.run(&["pull", &name]).fails(1, &["401"]);
    home.login(&server.address, "secret")
        .success()
        .err_has("docker-credential-test");
    let kept = std::fs::read_to_string(home.root.join("bin/kept")).unwrap();
    let kept: serde_json::Value = serde_json::from_str(&kept).unwrap();
    assert_eq!(kept["ServerURL"], server.address);
    assert_eq!(
        (&kept["Username"], &kept["Secret"]),
        (&"me".into(), &"secret".into())
    );
    assert_eq!(
        std::fs::read_to_string(home.root.join("docker/config.json")).unwrap(),
        config
    );
    home.run(&["pull", &name]).success();
    let asked = std::fs::read_to_string(home.root.join("bin/asked")).unwrap();
    assert_eq!(asked.lines().next(), Some(server.address.as_str()));
    home.run(&["logout", &server.address])
        .success()
        .out_has("Removing login credentials");
    assert!(home.root.join("bin/erased").exists() && !home.root.join("bin/kept").exists());

    // A store for every registry; one that is not installed; one that fails.
    home.root
        .write("docker/config.json", r#"{"credsStore":"absent"}"#);
    home.run(&["pull", &name]).fails(
        1,
        &[
            "cannot run docker-credential-absent",
            "ENOENT",
            "it must be in PATH",
        ],
    );
    home.root
        .write("docker/config.json", r#"{"credsStore":"../evil"}"#);
    home.run(&["pull", &name]).fails(1, &["is no plain name"]);
    home.root.write(
        "bin/docker-credential-test",
        "#!/bin/sh\necho the keychain is locked; exit 1\n",
    );
    home.root
        .write("docker/config.json", r#"{"credsStore":"test"}"#);
    home.run(&["pull", &name])
        .fails(1, &["the keychain is locked"]);
}

#[test]
fn podmans_file_counts_too_and_its_longest_name() {
    let home = Home::new("auth-podman");
    let server = basic("dGVhbTpwdw=="); // team:pw
    let address = &server.address;
    let text = format!(
        r#"{{"auths":{{"{address}":{{"auth":"{}"}},"{address}/team":{{"auth":"dGVhbTpwdw=="}}}}}}"#,
        "b3RoZXI6cHc="
    );
    home.root.write("auth.json", text);
    home.run(&["pull", &server.name("team/x")]).success();
    home.run(&["pull", &server.name("x")]).fails(1, &["401"]);
    home.root.write("auth.json", "{ not json");
    home.run(&["pull", &server.name("x")])
        .fails(1, &["auth.json"]);
}

#[test]
fn a_password_is_asked_for_without_being_shown() {
    let home = Home::new("auth-prompt");
    let server = basic("bWU6c2VjcmV0");
    let (docker, podman) = (home.root.join("docker"), home.root.join("auth.json"));
    let (docker, podman) = (docker.display().to_string(), podman.display().to_string());
    let env = [
        ("DOCKER_CONFIG", docker.as_str()),
        ("REGISTRY_AUTH_FILE", &podman),
    ];
    let open = || {
        let mut screen = Screen::open_with(&home.root, &["login", &server.address], &env);
        screen.wait_for("Username: ");
        screen.types("me\r");
        screen.wait_for("Password: ");
        screen
    };
    let mut screen = open();
    screen.types("secrex\u{7f}t\r"); // a slip, taken back
    screen.wait_for("Login Succeeded");
    assert!(!screen.seen.contains("secret"), "{}", screen.seen);
    assert_eq!(screen.ends(), 0);
    assert_eq!(
        home.config()["auths"][&server.address]["auth"],
        "bWU6c2VjcmV0"
    );
    let mut screen = open();
    screen.types("sec\u{3}");
    screen.wait_for("the login was interrupted");
    assert_eq!(screen.ends(), 1);
    home.run(&["login", &server.address])
        .fails(1, &["a user is needed", "--username"]);
    home.run(&["login", "-u", "me", &server.address])
        .fails(1, &["--password-stdin"]);
}
