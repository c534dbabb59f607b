//! What is made from a catalog and kept for as long as that is the one that is asked about.

use std::sync::Arc;

use arc_swap::ArcSwapOption;

use super::Catalog;
use crate::error::Result;

/// The value of the last catalog.
#[derive(Debug)]
pub struct PerCatalog<T> {
    last: ArcSwapOption<Kept<T>>,
}

#[derive(Debug)]
struct Kept<T> {
    catalog: Arc<Catalog>,
    value: T,
}

impl<T> Default for PerCatalog<T> {
    fn default() -> Self {
        PerCatalog {
            last: ArcSwapOption::empty(),
        }
    }
}

impl<T: Clone> PerCatalog<T> {
    /// The value of a catalog, made where it is another one than before.
    ///
    /// # Errors
    /// What `make` fails with; nothing is kept then.
    pub fn get_or_make(
        &self,
        catalog: &Arc<Catalog>,
        make: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let last = self.last.load();
        if let Some(known) = last.as_ref().filter(|k| Arc::ptr_eq(&k.catalog, catalog)) {
            return Ok(known.value.clone());
        }
        let value = make()?;
        self.last.store(Some(Arc::new(Kept {
            catalog: Arc::clone(catalog),
            value: value.clone(),
        })));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::error::Error;

    #[test]
    fn it_is_made_once_a_catalog_and_a_failure_is_not_kept() {
        let (one, other) = (Arc::new(Catalog::default()), Arc::new(Catalog::default()));
        let kept = PerCatalog::default();
        let failed = kept.get_or_make(&one, || Err(Error::not_found("a view")));
        assert!(failed.is_err());
        assert_eq!(kept.get_or_make(&one, || Ok(1)).unwrap(), 1);
        assert_eq!(kept.get_or_make(&one, || Ok(2)).unwrap(), 1);
        assert_eq!(kept.get_or_make(&other, || Ok(3)).unwrap(), 3);
    }
}
