//! What `/config_dump` shows of a certificate, in Istio's form. Never the key.

use std::time::SystemTime;

use ambit_api::identity::Identity;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;
use serde::Serialize;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::State;

/// One identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Dumped {
    /// The SPIFFE ID.
    pub identity: String,
    /// `Initializing`, `Available`, or `Unavailable: <why>`.
    pub state: String,
    /// Leaf first.
    pub cert_chain: Vec<DumpedCertificate>,
    /// The roots that came with it.
    pub root_certs: Vec<DumpedCertificate>,
}

/// One certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DumpedCertificate {
    /// PEM, in base64.
    pub pem: String,
    /// Serial number, decimal.
    pub serial_number: String,
    /// RFC 3339.
    pub valid_from: String,
    /// RFC 3339.
    pub expiration_time: String,
}

impl Dumped {
    /// The public parts.
    pub fn new(identity: &Identity, state: &State) -> Self {
        let (text, chain, roots) = match state {
            State::Pending => ("Initializing".to_owned(), Vec::new(), Vec::new()),
            State::Failed { reason, .. } => (format!("Unavailable: {reason}"), Vec::new(), Vec::new()),
            State::Ready(held) => {
                let valid = held.certificate.is_valid_at(SystemTime::now());
                let text = if valid { "Available" } else { "Unavailable: expired" };
                (text.to_owned(), all(&held.certificate.chain), all(held.roots.certificates()))
            }
        };
        Self { identity: identity.uri().to_owned(), state: text, cert_chain: chain, root_certs: roots }
    }
}

fn all(certificates: &[CertificateDer<'static>]) -> Vec<DumpedCertificate> {
    certificates.iter().filter_map(dump).collect()
}

fn dump(der: &CertificateDer<'_>) -> Option<DumpedCertificate> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    Some(DumpedCertificate {
        pem: STANDARD.encode(to_pem(der)),
        serial_number: parsed.serial.to_string(),
        valid_from: rfc3339(parsed.validity().not_before.timestamp()),
        expiration_time: rfc3339(parsed.validity().not_after.timestamp()),
    })
}

fn to_pem(der: &[u8]) -> String {
    let body = STANDARD.encode(der);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in body.as_bytes().chunks(64) {
        pem.extend(line.iter().map(|byte| char::from(*byte)));
        pem.push('\n');
    }
    pem.push_str("-----END CERTIFICATE-----\n");
    pem
}

/// Days to a date after Howard Hinnant's `civil_from_days`: eras of 400 years that begin in March.
/// A time in seconds since 1970 as `2026-10-01T23:59:59Z`.
pub fn rfc3339(seconds: i64) -> String {
    let (days, time) = (seconds.div_euclid(86_400) + 719_468, seconds.rem_euclid(86_400));
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (time / 3_600, time / 60 % 60, time % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::rfc3339;

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_790_899_199, "2026-10-01T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(rfc3339(seconds), text);
        }
    }
}
