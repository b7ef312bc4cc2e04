//! The OCI documents: nothing is lost in a round trip, and the types agree with the `oci-spec`
//! crate in both directions.
//!
//! Any kernel: documents are read and written in memory.

use glassbox::spec::image::{Descriptor, ImageConfig, Index, Manifest, Platform};
use glassbox::spec::runtime::{NamespaceType, SeccompOp, Spec, State, Status};
use serde_json::{Value, json};

const FULL: &str = include_str!("data/config-full.json");

/// Reads `document` as our type and as the other's, and writes each as the other.
fn both_ways<Ours, Theirs>(document: &str)
where
    Ours: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
    Theirs: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    let ours: Ours = serde_json::from_str(document).expect("ours");
    let theirs: Theirs = serde_json::from_str(document).expect("theirs");
    let written = serde_json::to_string(&ours).unwrap();
    let read: Theirs = serde_json::from_str(&written).expect("ours, read by them");
    assert_eq!(read, theirs);
    let written = serde_json::to_string(&theirs).unwrap();
    let read: Ours = serde_json::from_str(&written).expect("theirs, read by us");
    let again: Theirs =
        serde_json::from_str(&serde_json::to_string(&read).unwrap()).expect("and back");
    assert_eq!(again, theirs);
}

fn without_default(value: Value) -> Value {
    match value {
        Value::Object(map) => map
            .into_iter()
            .map(|(k, v)| (k, without_default(v)))
            .filter(|(_, v)| *v != json!(false) && *v != json!([]) && *v != json!({}))
            .collect(),
        Value::Array(list) => list.into_iter().map(without_default).collect(),
        other => other,
    }
}

#[test]
fn a_full_config_survives_unchanged() {
    let spec: Spec = serde_json::from_str(FULL).unwrap();
    assert!(spec.extra.contains_key("windows"), "kept although unknown");
    let linux = spec.linux.as_ref().unwrap();
    assert!(linux.extra.is_empty(), "unknown: {:?}", linux.extra);
    assert_eq!(linux.namespaces[1].typ, NamespaceType::Network);
    let seccomp = linux.seccomp.as_ref().unwrap();
    assert_eq!(seccomp.syscalls[0].args[0].op, SeccompOp::MaskedEqual);
    let process = spec.process.as_ref().unwrap();
    assert_eq!(process.rlimits[0].hard, u64::MAX);
    let want: Value = serde_json::from_str(FULL).unwrap();
    assert_eq!(serde_json::to_value(&spec).unwrap(), want);
    // No field of the full document may have landed among the unknown ones, except `windows`.
    assert_eq!(format!("{spec:?}").matches("extra: {\"").count(), 1);
}

#[test]
fn config_json_agrees_with_oci_spec() {
    both_ways::<Spec, oci_spec::runtime::Spec>(FULL);
    // Their default writes `false` and `[]` where we, like Go, leave it out; the rest must be equal.
    let default = serde_json::to_value(oci_spec::runtime::Spec::default()).unwrap();
    let ours: Spec = serde_json::from_value(default.clone()).unwrap();
    let written = serde_json::to_value(&ours).unwrap();
    serde_json::from_value::<oci_spec::runtime::Spec>(written.clone()).expect("read by them");
    assert_eq!(without_default(written), without_default(default));
}

#[test]
fn the_state_agrees_with_oci_spec() {
    let state = json!({"ociVersion": "1.2.0", "id": "a", "status": "running", "pid": 4422,
        "bundle": "/containers/a", "annotations": {"k": "v"}});
    both_ways::<State, oci_spec::runtime::State>(&state.to_string());
    let state: State = serde_json::from_value(state).unwrap();
    assert_eq!(state.status, Status::Running);
    assert_eq!(format!("{:>9}", state.status), "  running");
}

#[test]
fn null_means_absent_and_a_missing_required_field_is_named() {
    let spec: Spec = serde_json::from_str(
        r#"{"ociVersion":"1.0.0","mounts":null,"linux":null,"process":{"cwd":"/","args":null}}"#,
    )
    .unwrap();
    assert!(spec.mounts.is_empty() && spec.linux.is_none());
    let error = serde_json::from_str::<Spec>(r#"{"ociVersion":"1.0.0","mounts":[{}]}"#);
    assert!(error.unwrap_err().to_string().contains("destination"));
    let error = serde_json::from_str::<Spec>(
        r#"{"ociVersion":"1.0.0","linux":{"namespaces":[{"type":"nope"}]}}"#,
    );
    assert!(error.unwrap_err().to_string().contains("nope"));
}

const DIGEST: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

fn descriptor(media_type: &str) -> Value {
    json!({"mediaType": media_type, "digest": DIGEST, "size": 2})
}

#[test]
fn image_documents_agree_with_oci_spec() {
    let full = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json",
        "digest": DIGEST, "size": 2, "urls": ["https://example.com/a"], "data": "e30=",
        "annotations": {"org.opencontainers.image.ref.name": "v1"},
        "artifactType": "application/vnd.example.thing",
        "platform": {"architecture": "arm", "os": "linux", "variant": "v7",
            "os.version": "1", "os.features": ["a"]}});
    both_ways::<Descriptor, oci_spec::image::Descriptor>(&full.to_string());
    let index = json!({"schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": [full],
        "annotations": {"k": "v"}});
    both_ways::<Index, oci_spec::image::ImageIndex>(&index.to_string());
    let manifest = json!({"schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json"),
        "layers": [descriptor("application/vnd.oci.image.layer.v1.tar+gzip")],
        "subject": descriptor("application/vnd.oci.image.manifest.v1+json"),
        "annotations": {"k": "v"}});
    both_ways::<Manifest, oci_spec::image::ImageManifest>(&manifest.to_string());
    let config = json!({"created": "2026-01-01T00:00:00Z", "author": "a",
        "architecture": "amd64", "os": "linux",
        "config": {"User": "alice", "ExposedPorts": {"8080/tcp": {}}, "Env": ["PATH=/bin"],
            "Entrypoint": ["/bin/app"], "Cmd": ["-v"], "Volumes": {"/data": {}},
            "WorkingDir": "/home/alice", "Labels": {"k": "v"}, "StopSignal": "SIGINT"},
        "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
        "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "ADD", "author": "b",
            "comment": "c", "empty_layer": true}]});
    let ours: ImageConfig = serde_json::from_value(config.clone()).unwrap();
    assert_eq!(serde_json::to_value(&ours).unwrap(), config);
    both_ways::<ImageConfig, oci_spec::image::ImageConfiguration>(&config.to_string());
}

#[test]
fn what_docker_writes_is_read() {
    let config: ImageConfig = serde_json::from_value(json!({
        "architecture": "amd64", "os": "linux", "docker_version": "20.10", "container": "x",
        "config": {"Hostname": "", "Tty": false, "Env": null, "Cmd": ["sh"], "Entrypoint": null,
            "Volumes": null, "Labels": null, "OnBuild": null, "Shell": ["/bin/bash", "-c"],
            "Healthcheck": {"Test": ["CMD-SHELL", "true"], "Interval": 30000000000i64}},
        "rootfs": {"type": "layers", "diff_ids": null}
    }))
    .unwrap();
    let inner = config.config.as_ref().unwrap();
    assert_eq!(inner.cmd, ["sh"]);
    assert_eq!(inner.healthcheck.as_ref().unwrap().interval, 30_000_000_000);
    assert_eq!(config.extra["docker_version"], "20.10");
    let error = serde_json::from_value::<Descriptor>(
        json!({"mediaType": "x", "digest": "sha256:bad", "size": 1}),
    );
    assert!(error.unwrap_err().to_string().contains("64 digits"));
}

#[test]
fn a_platform_runs_older_variants_of_arm() {
    let arm = |variant: Option<&str>| Platform {
        architecture: "arm".into(),
        os: "linux".into(),
        variant: variant.map(Into::into),
        ..Platform::default()
    };
    assert!(arm(Some("v6")).runs_on(&arm(Some("v7"))));
    assert!(!arm(Some("v7")).runs_on(&arm(Some("v6"))));
    assert!(arm(None).runs_on(&arm(Some("v7"))));
    assert!(!arm(None).runs_on(&Platform::host()) || cfg!(target_arch = "arm"));
    assert_eq!(arm(Some("v7")).to_string(), "linux/arm/v7");
}
