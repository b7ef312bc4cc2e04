//! `image import URL`: a tar from a web server on the loopback, which answers well and badly.
//!
//! Any kernel: HTTP and ordinary files.

mod common;

use common::{LeakCheck, TempRoot, run_in};
use std::io::{Read, Write};
use std::net::TcpListener;

/// A tar of one file.
fn tar() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(6);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    builder
        .append_data(&mut header, "greeting", &b"hello\n"[..])
        .unwrap();
    builder.into_inner().unwrap()
}

/// Answers as many requests as there are answers, one a connection; returns the server's address.
fn serve(answers: Vec<Vec<u8>>) -> (String, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let thread = std::thread::spawn(move || {
        for answer in answers {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0u8];
                if stream.read(&mut byte).unwrap_or(0) == 0 {
                    break;
                }
                request.push(byte[0]);
            }
            stream.write_all(&answer).unwrap();
        }
    });
    (format!("http://{address}"), thread)
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{headers}\r\n");
    [head.as_bytes(), body].concat()
}

#[test]
fn a_tar_is_imported_through_a_redirect() {
    let root = TempRoot::new("import-url");
    let _leaks = LeakCheck::new(&root);
    let tar = tar();
    let length = format!("Content-Length: {}\r\n", tar.len());
    let (url, server) = serve(vec![
        answer(
            "302 Found",
            "Location: /real.tar\r\nContent-Length: 0\r\n",
            b"",
        ),
        answer("200 OK", &length, &tar),
    ]);
    run_in(
        &root,
        ["image", "import", &format!("{url}/root.tar"), "web"],
    )
    .success();
    server.join().unwrap();
    let out = run_in(&root, ["layer", "whence", "--image", "web", "/greeting"]).success();
    out.out_has("greeting");
}

#[test]
fn a_server_that_answers_badly_leaves_nothing_behind() {
    let root = TempRoot::new("import-bad-url");
    let _leaks = LeakCheck::new(&root);
    let tar = tar();
    let longer = format!("Content-Length: {}\r\n", tar.len() + 512);
    let (url, server) = serve(vec![
        answer("404 Not Found", "Content-Length: 0\r\n", b""),
        answer("200 OK", &longer, &tar[..600]),
    ]);
    run_in(&root, ["image", "import", &format!("{url}/a.tar"), "web"]).fails(1, &["404"]);
    run_in(&root, ["image", "import", &format!("{url}/b.tar"), "web"]).fails(1, &["cannot import"]);
    server.join().unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    run_in(
        &root,
        ["image", "import", &format!("http://{nobody}/c.tar"), "web"],
    )
    .fails(1, &["cannot get"]);
    assert_eq!(
        run_in(&root, ["image", "ls", "-q"]).success().stdout.trim(),
        ""
    );
}
