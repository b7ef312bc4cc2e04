//! A client of the Container Runtime Interface: what a kubelet says to containerd.
//!
//! What it does: gRPC over a unix socket, one call a connection, with the messages of runtime.v1 that
//! a pod's life takes; fields that no test sets are left out, as protobuf allows.
//!
//! What it implements: kubernetes/cri-api `runtime/v1/api.proto`; gRPC over HTTP/2.
//! Interface: [`Cri`] and the messages. Read next: `tests/interop_cri.rs`.

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use std::path::PathBuf;

macro_rules! messages {
    ($($name:ident { $($(#[$meta:meta])* $field:ident: $type:ty,)* })*) => {$(
        #[derive(Clone, PartialEq, Message)]
        pub struct $name { $($(#[$meta])* pub $field: $type,)* }
    )*};
}

messages! {
    Metadata {
        #[prost(string, tag = "1")] name: String,
        #[prost(string, tag = "2")] uid: String,
        #[prost(string, tag = "3")] namespace: String,
    }
    PodConfig {
        #[prost(message, tag = "1")] metadata: Option<Metadata>,
        #[prost(string, tag = "2")] hostname: String,
        #[prost(string, tag = "3")] log_directory: String,
        #[prost(message, tag = "8")] linux: Option<LinuxPod>,
    }
    LinuxPod {
        #[prost(string, tag = "1")] cgroup_parent: String,
        #[prost(message, tag = "2")] security_context: Option<PodSecurity>,
    }
    PodSecurity {
        #[prost(message, tag = "1")] namespace_options: Option<Namespaces>,
    }
    // 0: the pod's, 1: the container's own, 2: the node's.
    Namespaces {
        #[prost(int32, tag = "1")] network: i32,
        #[prost(int32, tag = "2")] pid: i32,
        #[prost(int32, tag = "3")] ipc: i32,
    }
    RunPod {
        #[prost(message, tag = "1")] config: Option<PodConfig>,
        #[prost(string, tag = "2")] runtime_handler: String,
    }
    // The answer to what makes something, and the request of what is done with it.
    Id {
        #[prost(string, tag = "1")] id: String,
    }
    ContainerName {
        #[prost(string, tag = "1")] name: String,
    }
    Image {
        #[prost(string, tag = "1")] image: String,
    }
    ContainerConfig {
        #[prost(message, tag = "1")] metadata: Option<ContainerName>,
        #[prost(message, tag = "2")] image: Option<Image>,
        #[prost(string, repeated, tag = "3")] command: Vec<String>,
        #[prost(string, tag = "11")] log_path: String,
        #[prost(message, tag = "15")] linux: Option<LinuxContainer>,
    }
    LinuxContainer {
        #[prost(message, tag = "1")] resources: Option<Resources>,
        #[prost(message, tag = "2")] security_context: Option<Security>,
    }
    Resources {
        #[prost(int64, tag = "4")] memory_limit_in_bytes: i64,
        #[prost(int64, tag = "5")] oom_score_adj: i64,
    }
    Security {
        #[prost(message, tag = "3")] namespace_options: Option<Namespaces>,
        #[prost(message, tag = "5")] run_as_user: Option<Number>,
        #[prost(bool, tag = "7")] readonly_rootfs: bool,
        #[prost(bool, tag = "11")] no_new_privs: bool,
    }
    Number {
        #[prost(int64, tag = "1")] value: i64,
    }
    Create {
        #[prost(string, tag = "1")] pod_sandbox_id: String,
        #[prost(message, tag = "2")] config: Option<ContainerConfig>,
        #[prost(message, tag = "3")] sandbox_config: Option<PodConfig>,
    }
    Stop {
        #[prost(string, tag = "1")] container_id: String,
        #[prost(int64, tag = "2")] timeout: i64,
    }
    ExecSync {
        #[prost(string, tag = "1")] container_id: String,
        #[prost(string, repeated, tag = "2")] cmd: Vec<String>,
        #[prost(int64, tag = "3")] timeout: i64,
    }
    Executed {
        #[prost(bytes, tag = "1")] stdout: Vec<u8>,
        #[prost(bytes, tag = "2")] stderr: Vec<u8>,
        #[prost(int32, tag = "3")] exit_code: i32,
    }
    StatusAnswer {
        #[prost(message, tag = "1")] status: Option<ContainerStatus>,
    }
    // state: 0 created, 1 running, 2 exited.
    ContainerStatus {
        #[prost(int32, tag = "3")] state: i32,
        #[prost(int32, tag = "7")] exit_code: i32,
        #[prost(string, tag = "10")] reason: String,
    }
    Nothing {}
}

/// A socket that answers the interface.
pub struct Cri {
    /// Where it is.
    pub socket: PathBuf,
}

impl Cri {
    /// Calls a method of the runtime service.
    #[track_caller]
    pub fn call<A: Message + Default>(&self, method: &str, request: &impl Message) -> A {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build();
        let answer = runtime
            .expect("a runtime")
            .block_on(self.exchange(method, request.encode_to_vec()));
        let answer = answer.unwrap_or_else(|e| panic!("{method}: {e}"));
        A::decode(&answer[..]).unwrap_or_else(|e| panic!("{method}'s answer: {e}"))
    }

    async fn exchange(&self, method: &str, message: Vec<u8>) -> Result<Vec<u8>, String> {
        let said = |e: &dyn std::fmt::Display| e.to_string();
        let stream = tokio::net::UnixStream::connect(&self.socket).await;
        let io = TokioIo::new(stream.map_err(|e| said(&e))?);
        let shaken = hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await;
        let (mut sender, connection) = shaken.map_err(|e| said(&e))?;
        tokio::spawn(connection);
        // A message is framed by whether it is compressed, and its length.
        let mut body = vec![0];
        body.extend_from_slice(&(message.len() as u32).to_be_bytes());
        body.extend_from_slice(&message);
        let request =
            hyper::Request::post(format!("http://cri/runtime.v1.RuntimeService/{method}"))
                .header("content-type", "application/grpc")
                .header("te", "trailers")
                .body(Full::new(Bytes::from(body)));
        let answer = sender.send_request(request.map_err(|e| said(&e))?).await;
        let answer = answer.map_err(|e| said(&e))?;
        let early = answer.headers().clone();
        let all = answer.into_body().collect().await.map_err(|e| said(&e))?;
        // An answer without a body has its status in front.
        let word = |name: &str| {
            let late = all.trailers().and_then(|t| t.get(name));
            let value = late.or_else(|| early.get(name))?;
            Some(value.to_str().unwrap_or("?").to_string())
        };
        if word("grpc-status").as_deref() != Some("0") {
            return Err(word("grpc-message").unwrap_or_else(|| "no status".into()));
        }
        let bytes = all.to_bytes();
        Ok(bytes.get(5..).unwrap_or_default().to_vec())
    }
}
