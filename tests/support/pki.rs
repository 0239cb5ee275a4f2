//! The certificates of a test control plane, kept as files in one directory.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use super::Result;

#[derive(Clone, Debug)]
pub struct Pki {
    directory: PathBuf,
}

/// A client as PEM: certificate and key.
pub struct Client {
    pub certificate: String,
    pub key: String,
}

impl Pki {
    /// Takes what is in the directory, or makes it.
    pub fn open(directory: &Path) -> Result<Pki> {
        let pki = Pki { directory: directory.to_owned() };
        if !directory.join("ready").exists() {
            fs::create_dir_all(directory)?;
            pki.create()?;
            fs::write(directory.join("ready"), "")?;
        }
        Ok(pki)
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    pub fn authority(&self) -> Result<String> {
        Ok(fs::read_to_string(self.file("ca.crt"))?)
    }

    /// A client that the API server takes for this user in this group (empty: none).
    pub fn client(&self, user: &str, group: &str) -> Result<Client> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, user);
        if !group.is_empty() {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer()?)?.pem();
        Ok(Client { certificate, key: key.serialize_pem() })
    }

    fn create(&self) -> Result<()> {
        let authority = KeyPair::generate()?;
        fs::write(self.file("ca.key"), authority.serialize_pem())?;
        fs::write(self.file("ca.crt"), authority_params().self_signed(&authority)?.pem())?;

        let mut serving = CertificateParams::new(vec!["localhost".to_owned()])?;
        serving.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        serving.subject_alt_names.push(SanType::IpAddress(address));
        serving.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let certificate = serving.signed_by(&key, &self.issuer()?)?;
        fs::write(self.file("serving.crt"), certificate.pem())?;
        fs::write(self.file("serving.key"), key.serialize_pem())?;

        let accounts = KeyPair::generate()?;
        fs::write(self.file("accounts.key"), accounts.serialize_pem())?;
        fs::write(self.file("accounts.pub"), accounts.public_key_pem())?;
        Ok(())
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>> {
        let key = KeyPair::from_pem(&fs::read_to_string(self.file("ca.key"))?)?;
        Ok(Issuer::new(authority_params(), key))
    }
}

/// Always the same, so that the key alone is enough to sign again later.
fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "remote-command-test-ca");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}
