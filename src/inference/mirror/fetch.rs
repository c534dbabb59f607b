//! Fetches one version: the files that its signature names and no others, bounded, checked, and visible only as a whole.

use std::{io, path::Path};

use futures_util::StreamExt as _;
use sha2::{Digest, Sha256};
use tokio::{
    fs::{self, File},
    io::AsyncWriteExt as _,
};

use super::{MirrorOptions, OfferedVersion, VersionSource};
use crate::{
    error::{Error, Result},
    inference::Signature,
};

/// What says which files a version has.
pub(super) const SIGNATURE_FILE: &str = "signature.json";

/// What the folder of a fetch that has not ended begins with.
pub(super) const FETCHING_PREFIX: &str = ".fetching-";

/// One fetch.
pub(super) struct Fetch<'a> {
    pub source: &'a dyn VersionSource,
    pub offered: &'a OfferedVersion,
    pub options: &'a MirrorOptions,
    /// Whose signature it has to be.
    pub model: &'a str,
}

impl Fetch<'_> {
    /// Fetches into a folder of its own, which gets its name once all is there.
    ///
    /// # Errors
    /// `FailedPrecondition` for what is too large, not of this model or not what the signature says; as
    /// `VersionSource::open`; nothing is left behind.
    pub(super) async fn run(&self, parent: &Path, name: &str) -> Result<()> {
        fs::create_dir_all(parent)
            .await
            .map_err(|fault| cannot_write(parent, &fault))?;
        let fetching = tempfile::Builder::new()
            .prefix(FETCHING_PREFIX)
            .tempdir_in(parent)
            .map_err(|fault| cannot_write(parent, &fault))?;
        let mut left = self.options.version_bytes_max;
        let signature_path = fetching.path().join(SIGNATURE_FILE);
        self.download(SIGNATURE_FILE, &signature_path, &mut left)
            .await?;
        let signature = self.signature(&signature_path).await?;
        for (file, sha256) in files_of(&signature) {
            check_name(file)?;
            let digest = self
                .download(file, &fetching.path().join(file), &mut left)
                .await?;
            if sha256.is_some_and(|wanted| !wanted.eq_ignore_ascii_case(&digest)) {
                return Err(Error::failed_precondition(format!(
                    "{file}: its SHA-256 is {digest}, and the signature says another one"
                )));
            }
        }
        let target = parent.join(name);
        // One that is there is of a fetch that nobody took note of.
        if let Err(fault) = fs::remove_dir_all(&target).await
            && fault.kind() != io::ErrorKind::NotFound
        {
            return Err(cannot_write(&target, &fault));
        }
        let renamed = fs::rename(fetching.path(), &target).await;
        renamed.map_err(|fault| cannot_write(&target, &fault))?;
        // It is not there any more under the name that would be removed.
        let _ = fetching.keep();
        Ok(())
    }

    async fn signature(&self, path: &Path) -> Result<Signature> {
        let text = fs::read_to_string(path).await.map_err(|_| {
            Error::failed_precondition(format!("{SIGNATURE_FILE}: it is not UTF-8 text"))
        })?;
        let signature = Signature::parse(&text).map_err(|fault| fault.within(SIGNATURE_FILE))?;
        if signature.model != self.model {
            return Err(Error::failed_precondition(format!(
                "{SIGNATURE_FILE}: it is the signature of the model \"{}\", not of \"{}\"",
                signature.model, self.model
            )));
        }
        Ok(signature)
    }

    /// Writes a file as it comes; returns its SHA-256. What it is larger than allowed by is never written.
    async fn download(&self, name: &str, path: &Path, left: &mut u64) -> Result<String> {
        let mut bytes = self
            .source
            .open(self.offered, name)
            .await
            .map_err(|fault| fault.within(name))?;
        let mut file = File::create_new(path)
            .await
            .map_err(|fault| cannot_write(path, &fault))?;
        let mut hasher = Sha256::new();
        let mut file_left = self.options.file_bytes_max;
        while let Some(part) = bytes.next().await {
            let part = part.map_err(|fault| fault.within(name))?;
            let size = u64::try_from(part.len()).unwrap_or(u64::MAX);
            file_left = file_left.checked_sub(size).ok_or_else(|| {
                too_large(name, self.options.file_bytes_max, "models.file_bytes_max")
            })?;
            *left = left.checked_sub(size).ok_or_else(|| {
                let bound = self.options.version_bytes_max;
                too_large("the version", bound, "artifacts.version_bytes_max")
            })?;
            hasher.update(&part);
            file.write_all(&part)
                .await
                .map_err(|fault| cannot_write(path, &fault))?;
        }
        // Before the folder is renamed: what is visible has to be whole after a crash, too.
        file.sync_all()
            .await
            .map_err(|fault| cannot_write(path, &fault))?;
        Ok(hex::encode(hasher.finalize()))
    }
}

/// The files that a signature names, with the digests that it tells.
fn files_of(signature: &Signature) -> Vec<(&str, Option<&str>)> {
    let mut files = vec![
        (signature.file.as_str(), Some(signature.sha256.as_str())),
        (signature.golden.file.as_str(), None),
    ];
    if let Some(explain) = &signature.explain {
        files.push((&explain.file, Some(&explain.sha256)));
    }
    files
}

/// A name that is a file of the folder, and none of ours.
fn check_name(name: &str) -> Result<()> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if name.starts_with('.') || !name.chars().all(is_plain) || name == SIGNATURE_FILE {
        return Err(Error::failed_precondition(format!(
            "{SIGNATURE_FILE}: \"{name}\" is no name of a file to fetch: letters, digits, _, - and ."
        )));
    }
    Ok(())
}

fn too_large(what: &str, bound: u64, setting: &str) -> Error {
    Error::failed_precondition(format!(
        "{what}: it is larger than the {bound} bytes that {setting} allows"
    ))
}

fn cannot_write(path: &Path, fault: &io::Error) -> Error {
    Error::failed_precondition(format!("{}: cannot be written: {fault}", path.display()))
}
