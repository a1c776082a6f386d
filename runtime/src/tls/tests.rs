//! Links under TLS: what crosses, and who is refused.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{CipherSuite, RootCertStore, SupportedCipherSuite, version};

use super::credentials::Parts;
use super::testing::{Authority, Odd, name};
use super::*;
use crate::{
    Accepted, ConnectOptions, FrameLink, Interest, LinkError, LinkLimits, ListenOptions, Poller, Stream,
    accept, connect, listen,
};
use throng_wire::NodeId;

const LIMITS: LinkLimits = LinkLimits { frame_max: 4 << 20, outgoing_max: 1 << 20 };

/// Turns until something must have happened on a loopback connection.
const TURNS_MAX: usize = 20_000;

fn sockets() -> (Stream, Stream) {
    let listener =
        listen("127.0.0.1:0".parse().expect("an address"), ListenOptions::default()).expect("listening");
    let near = connect(listener.local_addr().expect("bound"), ConnectOptions::default()).expect("started");
    let (mut poller, mut events) = (Poller::new().expect("epoll"), Vec::new());
    poller.register(&listener, 0, Interest::Read).expect("registered");
    poller.wait(&mut events, Some(Duration::from_secs(10))).expect("waited");
    let Ok(Accepted::Connection(far, _)) = accept(&listener) else { panic!("no connection") };
    (near, far)
}

pub(super) fn links(dialled: Option<Session>, accepted: Option<Session>) -> (FrameLink, FrameLink) {
    let (near, far) = sockets();
    (FrameLink::new(near, dialled, LIMITS), FrameLink::new(far, accepted, LIMITS))
}

pub(super) fn frame(payload: &[u8]) -> impl FnOnce(&mut BytesMut) {
    move |out| {
        throng_wire::varint::encode(payload.len() as u64, out);
        out.put_slice(payload);
    }
}

/// Issues a certificate of an authority and loads it.
pub(super) fn member(dir: &Path, authority: &Authority, member: &str, odd: Odd) -> PeerTls {
    let issued = authority.issue_odd(&[&name(member)], odd);
    PeerTls::load(&authority.write(&dir.join(member), &issued)).expect("sound")
}

/// One frame from the dialler to the other side; how each side fared.
fn meet(dialled: Option<Session>, accepted: Option<Session>) -> [Result<(), LinkError>; 2] {
    let (mut near, mut far) = links(dialled, accepted);
    near.queue(frame(b"hello")).expect("room");
    let (mut ends, mut arrived) = ([const { None }; 2], false);
    for _ in 0..TURNS_MAX {
        for (link, end) in [&mut near, &mut far].into_iter().zip(&mut ends) {
            if end.is_none() {
                let turn = link.read(|payload| arrived |= payload == b"hello").and_then(|()| link.flush());
                *end = turn.err();
            }
        }
        if arrived || ends.iter().all(Option::is_some) {
            break;
        }
        if let Some(end) = ends.iter().position(Option::is_some) {
            // The driver drops a link that is over; the other side sees that.
            let gone = if end == 0 { &near } else { &far };
            let _ = rustix::net::shutdown(gone, rustix::net::Shutdown::Both);
        }
    }
    assert!(arrived || ends.iter().any(Option::is_some), "nothing happened");
    ends.map(|end| end.map_or(Ok(()), Err))
}

fn said(result: &Result<(), LinkError>) -> String {
    result.as_ref().err().map(LinkError::chain).unwrap_or_default()
}

pub(super) const NODE_2: Expected = Expected::Node(NodeId(2));

#[test]
fn members_of_a_cluster_meet_and_know_each_other() {
    let (dir, authority) = (tempfile::tempdir().expect("a directory"), Authority::new());
    let [one, two, gateway] =
        ["node-1", "node-2", "gateway"].map(|who| member(dir.path(), &authority, who, Odd::default()));
    for (dialler, expected) in [(&one, NODE_2), (&gateway, NODE_2), (&gateway, Expected::AnyNode)] {
        let sessions = (dialler.dial(expected).expect("made"), two.accept().expect("made"));
        let (mut near, mut far) = links(Some(sessions.0), Some(sessions.1));
        assert!(near.is_secure() && near.peer_name().is_none());
        near.queue(frame(b"hello")).expect("room before the handshake");
        let mut arrived = 0;
        for _ in 0..TURNS_MAX {
            near.flush().and_then(|()| far.read(|_| arrived += 1)).expect("open");
            far.flush().and_then(|()| near.read(|_| {})).expect("open");
            if arrived > 0 {
                break;
            }
        }
        assert_eq!(near.peer_name(), Some(two.name()));
        assert_eq!((far.peer_name(), arrived), (Some(dialler.name()), 1));
    }
}

#[test]
fn frames_of_all_sizes_cross_both_ways_in_order() {
    let (dir, authority) = (tempfile::tempdir().expect("a directory"), Authority::new());
    let [one, two] = ["node-1", "node-2"].map(|who| member(dir.path(), &authority, who, Odd::default()));
    let (mut near, mut far) = links(Some(one.dial(NODE_2).expect("made")), Some(two.accept().expect("made")));
    let sizes = [2usize, 3, 20_000, 3 << 20, 16_384, 16_383, 100_000, 2];
    let mut sides = [(0, Vec::new()), (0, Vec::new())];
    for _ in 0..TURNS_MAX {
        for (link, (queued, seen)) in [&mut near, &mut far].into_iter().zip(&mut sides) {
            if *queued < sizes.len() && link.queue(frame(&vec![*queued as u8; sizes[*queued]])).is_ok() {
                *queued += 1;
            }
            link.flush().expect("open");
            link.read(|payload| seen.push((payload.first().copied(), payload.len()))).expect("open");
        }
        if sides.iter().all(|(_, seen)| seen.len() == sizes.len()) {
            break;
        }
    }
    let expected: Vec<_> = (0u8..).zip(sizes).map(|(number, size)| (Some(number), size)).collect();
    for (link, (_, seen)) in [&near, &far].into_iter().zip(&sides) {
        assert_eq!(*seen, expected);
        assert!(!link.wants_write() && link.outgoing_len() == 0);
    }
}

#[test]
fn a_peer_that_does_not_read_fills_the_queue_and_no_more() {
    let (dir, authority) = (tempfile::tempdir().expect("a directory"), Authority::new());
    let [one, two] = ["node-1", "node-2"].map(|who| member(dir.path(), &authority, who, Odd::default()));
    let (mut near, mut far) = links(Some(one.dial(NODE_2).expect("made")), Some(two.accept().expect("made")));
    for _ in 0..TURNS_MAX {
        near.read(|_| {}).and_then(|()| near.flush()).expect("open");
        if near.peer_name().is_some() {
            break;
        }
        far.read(|_| {}).and_then(|()| far.flush()).expect("open");
    }
    let payload = vec![0u8; 64 << 10];
    let full = (0..10_000).any(|_| {
        let refused = near.queue(frame(&payload)).is_err();
        near.flush().expect("open");
        refused
    });
    assert!(full && near.wants_write());
    let sealed_max = crate::limits::LINK_SEAL_BYTES + 16 * 64;
    assert!(near.outgoing_len() <= LIMITS.outgoing_max + payload.len() + 4 + sealed_max);
}

#[test]
fn who_is_not_who_was_dialled_is_refused() {
    let (dir, authority) = (tempfile::tempdir().expect("a directory"), Authority::new());
    let [one, two, three, gateway] = ["node-1", "node-2", "node-3", "gateway"]
        .map(|who| member(dir.path(), &authority, who, Odd::default()));
    let foreign = Authority::new();
    let stranger = member(&dir.path().join("foreign"), &foreign, "node-2", Odd::default());
    let cases = [
        (&three, NODE_2, "is of node-3."),
        (&gateway, NODE_2, "is of gateway."),
        (&gateway, Expected::AnyNode, "expected was node.throng"),
        (&stranger, NODE_2, "not signed by our authority"),
    ];
    for (listener, dialled, words) in cases {
        let [near, far] =
            meet(Some(one.dial(dialled).expect("made")), Some(listener.accept().expect("made")));
        assert!(said(&near).contains(words), "{words}: {}", said(&near));
        assert!(said(&far).contains("refused our certificate"), "{words}: {}", said(&far));
    }
    // A member of another authority dials: the listener refuses, the dialler is told.
    let [near, far] = meet(Some(stranger.dial(NODE_2).expect("made")), Some(two.accept().expect("made")));
    assert!(near.is_err() && far.is_err(), "neither believes the other's authority");
}

/// Sessions of a caller whose own side is content with anybody that the authority signed.
fn careless(authority: &Authority, dir: &Path, names: &[&str], odd: Odd) -> Session {
    let files = authority.write(dir, &authority.issue_odd(names, odd));
    let chain = vec![CertificateDer::from_pem_file(&files.certificate).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(&files.key).expect("a key");
    let parts = parts(&files, ring::default_provider());
    Session::dial(Arc::new(parts.dial(chain, key).expect("fits")), &name("node-2")).expect("made")
}

fn parts(files: &PeerTlsFiles, provider: CryptoProvider) -> Parts {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&files.authorities).expect("a certificate")).expect("sound");
    let name = PeerName::parse(&name("node-2")).expect("a name");
    Parts { provider: Arc::new(provider), roots: Arc::new(roots), name }
}

#[test]
fn a_caller_without_a_good_certificate_is_refused() {
    let (dir, authority) = (tempfile::tempdir().expect("a directory"), Authority::new());
    let two = member(dir.path(), &authority, "node-2", Odd::default());
    let good = name("node-1");
    let other = good.replace("abab", "acac");
    let several = [good.as_str(), &name("node-3")];
    let day = 86_400;
    let cases = [
        (vec![good.as_str()], Odd { begins: -2 * day, ..Odd::default() }, "expired"),
        (vec![&good], Odd { begins: day, ..Odd::default() }, "not valid yet"),
        (vec![&good], Odd { for_servers_only: true, ..Odd::default() }, "allow"),
        (vec![&other], Odd::default(), "expected was a member of abab"),
        (vec!["localhost"], Odd::default(), "names no member"),
        (several.to_vec(), Odd::default(), "names several members"),
    ];
    for (names, odd, words) in cases {
        let session = careless(&authority, &dir.path().join("caller"), &names, odd);
        let [near, far] = meet(Some(session), Some(two.accept().expect("made")));
        assert!(said(&far).contains(words), "{words}: {}", said(&far));
        assert!(said(&near).contains("refused our certificate"), "{words}: {}", said(&near));
    }
}

#[test]
fn a_caller_without_any_certificate_is_refused() {
    let (dir, authority) = (tempfile::tempdir().expect("a directory"), Authority::new());
    let two = member(dir.path(), &authority, "node-2", Odd::default());
    let files = authority.write(&dir.path().join("caller"), &authority.issue(&[&name("node-1")]));
    let parts = parts(&files, ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::clone(&parts.provider))
        .with_protocol_versions(&[&version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(Arc::clone(&parts.roots))
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    let session = Session::dial(Arc::new(config), &name("node-2")).expect("made");
    let [near, far] = meet(Some(session), Some(two.accept().expect("made")));
    assert!(said(&far).contains("no certificates"), "{}", said(&far));
    assert!(said(&near).contains("CertificateRequired"), "{}", said(&near));
}

#[test]
fn tls_and_plaintext_do_not_mix() {
    let (dir, authority) = (tempfile::tempdir().expect("a directory"), Authority::new());
    let [one, two] = ["node-1", "node-2"].map(|who| member(dir.path(), &authority, who, Odd::default()));
    let [near, far] = meet(None, Some(two.accept().expect("made")));
    assert!(said(&far).contains("does not speak TLS"), "{}", said(&far));
    assert!(near.is_err());
    let [near, far] = meet(Some(one.dial(NODE_2).expect("made")), None);
    assert!(matches!(far, Err(LinkError::UnexpectedTls)), "{}", said(&far));
    assert!(near.is_err());
    let [near, far] = meet(None, None);
    assert!(near.is_ok() && far.is_ok(), "{} {}", said(&near), said(&far));
}

/// Carries bytes from one session to another, spoiled on the way by `spoil`.
fn carry(from: &mut Session, to: &mut Session, spoil: impl FnOnce(&mut Vec<u8>)) -> Result<bool, TlsError> {
    let mut bytes = from.sealed().to_vec();
    from.advance(bytes.len());
    spoil(&mut bytes);
    to.received().extend_from_slice(&bytes);
    to.open(&mut BytesMut::new())
}

#[test]
fn no_flipped_bit_and_no_cut_in_a_handshake_gets_through_or_panics() {
    let (dir, authority) = (tempfile::tempdir().expect("a directory"), Authority::new());
    let [one, two] = ["node-1", "node-2"].map(|who| member(dir.path(), &authority, who, Odd::default()));
    let mut spoiled = 0;
    // A bit of nearly every byte of each flight.
    for flight in 0..3 {
        for at in (0..usize::MAX).step_by(9) {
            let (mut near, mut far) = (one.dial(NODE_2).expect("made"), two.accept().expect("made"));
            let mut length = 0;
            let mut flip = |bytes: &mut Vec<u8>| {
                length = bytes.len();
                if let Some(byte) = bytes.get_mut(at / 8) {
                    *byte ^= 1 << (at % 8);
                }
            };
            let outcome = match flight {
                0 => carry(&mut near, &mut far, &mut flip),
                1 => carry(&mut near, &mut far, |_| {}).and_then(|_| carry(&mut far, &mut near, &mut flip)),
                _ => carry(&mut near, &mut far, |_| {})
                    .and_then(|_| carry(&mut far, &mut near, |_| {}))
                    .and_then(|_| carry(&mut near, &mut far, &mut flip)),
            };
            let _ = carry(&mut near, &mut far, |_| {}).and_then(|_| carry(&mut far, &mut near, |_| {}));
            let _ = carry(&mut near, &mut far, |_| {});
            if at / 8 >= length {
                assert!(outcome.is_ok() && near.is_established() && far.is_established(), "unspoiled");
                break;
            }
            // The version in a record's head is ignored (RFC 8446 §5.1) and no part of what is protected.
            let is_dead = matches!(at / 8, 1 | 2) || (flight > 0 && far.is_established());
            assert!(!far.is_established() || is_dead, "flight {flight}, bit {at} got through");
            spoiled += usize::from(!far.is_established());
        }
    }
    assert!(spoiled > 500, "{spoiled}");
}

#[test]
fn keys_are_changed_before_they_are_used_up() {
    let (dir, authority) = (tempfile::tempdir().expect("a directory"), Authority::new());
    let mut provider = ring::default_provider();
    for suite in &mut provider.cipher_suites {
        let SupportedCipherSuite::Tls13(original) = *suite;
        let mut common = rustls::CipherSuiteCommon {
            suite: original.common.suite,
            hash_provider: original.common.hash_provider,
            confidentiality_limit: original.common.confidentiality_limit,
        };
        assert!(common.confidentiality_limit >= 1 << 24, "2^24 records, or unlimited");
        common.confidentiality_limit = 64;
        let limited = rustls::Tls13CipherSuite { common, ..*original };
        *suite = SupportedCipherSuite::Tls13(Box::leak(Box::new(limited)));
    }
    provider.cipher_suites.retain(|suite| suite.suite() == CipherSuite::TLS13_AES_256_GCM_SHA384);
    let files = authority.write(dir.path(), &authority.issue(&[&name("node-2")]));
    let parts = parts(&files, provider);
    let chain = vec![CertificateDer::from_pem_file(&files.certificate).expect("a certificate")];
    let key = || PrivateKeyDer::from_pem_file(&files.key).expect("a key");
    let dial = parts.dial(chain.clone(), key()).expect("fits");
    let listen = parts.accept(chain, key()).expect("fits");
    let mut near = Session::dial(Arc::new(dial), &name("node-2")).expect("made");
    let mut far = Session::accept(Arc::new(listen)).expect("made");
    carry(&mut near, &mut far, |_| {}).expect("hello");
    carry(&mut far, &mut near, |_| {}).expect("answer");
    carry(&mut near, &mut far, |_| {}).expect("finished");
    let mut plaintext = BytesMut::new();
    for number in 0..1_000u32 {
        for (from, to) in [(true, false), (false, true)] {
            let (from, to) = if from && !to { (&mut near, &mut far) } else { (&mut far, &mut near) };
            let left = from.sealed().to_vec(); // what answering a change of keys made
            from.advance(left.len());
            from.seal(&number.to_be_bytes()).expect("the keys are good");
            to.received().extend_from_slice(&left);
            to.received().extend_from_slice(from.sealed());
            let length = from.sealed().len();
            from.advance(length);
            plaintext.clear();
            assert!(to.open(&mut plaintext).expect("the keys fit"));
            assert_eq!(plaintext[..], number.to_be_bytes());
        }
    }
}

#[test]
fn unusable_files_are_named_with_the_reason() {
    let (dir, authority) = (tempfile::tempdir().expect("a directory"), Authority::new());
    let (good, foreign) = (name("node-1"), Authority::new());
    let day = 86_400;
    let load = |authority: &Authority, issued| PeerTls::load(&authority.write(dir.path(), &issued));
    let mut cases = vec![
        (load(&foreign, authority.issue(&[&good])), "not signed by our authority"),
        (load(&authority, authority.issue(&["localhost"])), "names no member"),
    ];
    for (odd, words) in [
        (Odd { begins: -2 * day, ..Odd::default() }, "renew it"),
        (Odd { begins: day, ..Odd::default() }, "it is good from"),
        (Odd { for_clients_only: true, ..Odd::default() }, "allow"),
        (Odd { for_servers_only: true, ..Odd::default() }, "allow"),
    ] {
        cases.push((load(&authority, authority.issue_odd(&[&good], odd)), words));
    }
    for (loaded, words) in cases {
        let error = loaded.expect_err(words).to_string();
        assert!(error.contains("peer.pem") && error.contains(words), "{words}: {error}");
    }
    let write = || authority.write(dir.path(), &authority.issue(&[&good]));
    let files = write();
    let other = authority.write(&dir.path().join("other"), &authority.issue(&[&good]));
    let mixed = PeerTlsFiles { key: other.key, ..files.clone() };
    assert!(PeerTls::load(&mixed).expect_err("another key").to_string().contains("KeyMismatch"));
    for spoil in [&files.key, &files.authorities, &files.certificate] {
        write();
        std::fs::write(spoil, "not PEM").expect("written");
        let error = PeerTls::load(&files).expect_err("no PEM").to_string();
        assert!(error.contains(spoil.to_str().expect("plain")), "{error}");
    }
    std::fs::remove_file(&files.certificate).expect("removed");
    assert!(PeerTls::load(&files).is_err());
}

#[test]
fn renewed_files_are_taken_over_and_unusable_ones_are_not() {
    let (dir, authority) = (tempfile::tempdir().expect("a directory"), Authority::new());
    let write = |who: &str, lasts| {
        let issued = authority.issue_odd(&[&name(who)], Odd { lasts, ..Odd::default() });
        authority.write(dir.path(), &issued)
    };
    let files = write("node-1", 1_000);
    let mut watch = CertificateWatch::new(files.clone()).expect("sound");
    let tls = watch.tls().clone();
    let life = tls.life();
    assert_eq!(life.not_after - life.not_before, 1_000);
    assert!(!life.is_ending(life.not_after - 201) && life.is_ending(life.not_after - 199));
    assert!(matches!(watch.look(), Look::Unchanged));

    write("node-1", 2_000);
    assert!(matches!(watch.look(), Look::Reloaded));
    assert!(tls.life().not_after > life.not_after, "clones follow");
    assert!(matches!(watch.look(), Look::Unchanged));

    write("node-2", 3_000);
    assert!(matches!(watch.look(), Look::Refused(CredentialsError::Renamed(..))));
    assert!(matches!(watch.look(), Look::Unchanged), "said once");
    std::fs::write(&files.key, "half").expect("written");
    assert!(matches!(watch.look(), Look::Refused(CredentialsError::Unreadable(..))));
    assert_eq!(tls.life().not_after - tls.life().not_before, 2_000, "the old ones stay");

    write("node-1", 4_000);
    assert!(matches!(watch.look(), Look::Reloaded));
    assert_eq!(tls.life().not_after - tls.life().not_before, 4_000);
}
