//! How commands reach a cluster.

use std::path::Path;

use throng_client::{Client, ClientOptions, Roots};
use throng_wire::UserId;

use crate::certificate::DEV_CERT_FILE;
use crate::cli::{ConnectArgs, Transport};
use crate::error::Failure;
use crate::identity::ISSUER;
use crate::token;

/// Lifetime of the tokens that commands make for themselves, seconds.
const TOKEN_TTL_S: i64 = 86_400;

/// The user that Throng's own tokens call `name`.
pub(crate) fn user(name: &str) -> UserId {
    UserId::of(ISSUER, name)
}

/// Connects as the arguments say.
///
/// # Errors
/// [`Failure::Runtime`] if there is no key for a token, or no server.
pub(crate) async fn connect(args: &ConnectArgs) -> Result<Client, Failure> {
    let token = match &args.token {
        Some(token) => token.clone(),
        None => {
            let device = args.device.map_or_else(token::random_device, Ok)?;
            token::mint(&args.data_dir.join("keys"), &args.user, device, TOKEN_TTL_S)?
        }
    };
    let endpoint = endpoint(args.transport, &args.server);
    let options = options(&endpoint, &token, &args.data_dir.join("keys"));
    Client::connect(options)
        .await
        .map_err(|e| Failure::runtime(format!("cannot connect to {endpoint}"), chain(&e)))
}

/// Options that trust the development certificate, if there is one, and the system's otherwise.
pub(crate) fn options(endpoint: &str, token: &str, keys: &Path) -> ClientOptions {
    let mut options = ClientOptions::new([endpoint], token);
    let certificate = keys.join(DEV_CERT_FILE);
    if certificate.exists() {
        options.roots = Roots::Files(vec![certificate]);
    }
    options
}

/// The URL of a server.
pub(crate) fn endpoint(transport: Transport, server: &str) -> String {
    match transport {
        Transport::Ws => format!("ws://{server}"),
        Transport::Wss => format!("wss://{server}"),
        Transport::Quic => format!("quic://{server}"),
    }
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text += &format!(": {cause}");
        source = cause.source();
    }
    text
}
