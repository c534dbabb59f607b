//! Stores, views and rows to test with.

use std::sync::Arc;

use ferrocast::{
    catalog::{CatalogStore, Definitions, FeatureView, Plan, apply_definitions},
    config::Secret,
    features::{EntityKey, Materialization, StoredRow, Timestamp, Value, WriteRow},
    stores::{DatabaseOptions, Store, open},
};

use crate::postgres::Postgres;

/// A store on a fresh database, migrated.
pub struct Fixture {
    pub store: Arc<Store>,
    pub url: String,
    /// The folder of a SQLite file, taken away at the end.
    _folder: Option<tempfile::TempDir>,
}

impl Fixture {
    /// A second store on the same database, as another process would have.
    pub async fn another(&self) -> Arc<Store> {
        open_url(&self.url).await
    }

    pub fn is_sqlite(&self) -> bool {
        self.url.starts_with("sqlite:")
    }

    /// Runs SQL by hand.
    pub async fn execute(&self, sql: &str) {
        match self.url.strip_prefix("sqlite:") {
            Some(path) => rusqlite::Connection::open(path)
                .unwrap()
                .execute_batch(sql)
                .unwrap(),
            None => {
                let database = self.url.rsplit('/').next().unwrap();
                let client = Postgres::shared().connect(database).await;
                client.batch_execute(sql).await.unwrap();
            }
        }
    }

    /// Makes the tables of a definitions file; returns its views.
    pub async fn apply(&self, text: &str) -> Vec<Arc<FeatureView>> {
        let definitions = Definitions::parse(text).unwrap();
        apply_definitions(self.store.as_ref(), &definitions, false)
            .await
            .unwrap();
        definitions.views
    }

    /// A plan for a definitions file, against the catalog as it is.
    pub async fn plan(&self, text: &str) -> Plan {
        let catalog = self.store.load_catalog().await.unwrap();
        Plan::new(&catalog, &Definitions::parse(text).unwrap()).unwrap()
    }
}

pub async fn open_url(url: &str) -> Arc<Store> {
    let mut options = DatabaseOptions::new(Secret::from(url));
    options.pool_size = 4;
    // A machine busy with other tests is no fault of the store's.
    options.connect_timeout = std::time::Duration::from_secs(60);
    options.acquire_timeout = std::time::Duration::from_secs(60);
    options.statement_timeout = std::time::Duration::from_secs(60);
    open(&options).await.unwrap()
}

pub async fn sqlite() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}", folder.path().join("store.db").display());
    fixture(url, Some(folder)).await
}

pub async fn postgres() -> Fixture {
    let url = Postgres::shared().fresh_database().await;
    fixture(url, None).await
}

async fn fixture(url: String, folder: Option<tempfile::TempDir>) -> Fixture {
    let store = open_url(&url).await;
    store.migrate().await.unwrap();
    Fixture {
        store,
        url,
        _folder: folder,
    }
}

/// A definitions file with one view, its keys and features as TOML tables.
pub fn one_view(name: &str, keys: &str, features: &str) -> String {
    format!(
        r#"
        project = "demo"
        [[entities]]
        name = "thing"
        join_keys = [{keys}]
        [[feature_views]]
        name = "{name}"
        entity = "thing"
        features = [{features}]
        "#
    )
}

pub const ID: &str = r#"{ name = "id", type = "int64" }"#;
pub const X: &str = r#"{ name = "x", type = "double" }"#;

/// One view `numbers` with the key `id` and the feature `x`.
pub async fn numbers(fixture: &Fixture) -> Arc<FeatureView> {
    fixture.apply(&one_view("numbers", ID, X)).await.remove(0)
}

pub fn at(micros: i64) -> Timestamp {
    Timestamp::from_micros(micros).unwrap()
}

pub fn key(values: impl IntoIterator<Item = Value>) -> EntityKey {
    EntityKey::new(values.into_iter().collect()).unwrap()
}

pub fn id(id: i64) -> EntityKey {
    key([Value::Int64(id)])
}

pub fn write_row(key: EntityKey, event: i64, created: i64, values: Vec<Value>) -> WriteRow {
    WriteRow {
        key,
        row: StoredRow {
            event_timestamp: at(event),
            created_at: at(created),
            values,
        },
    }
}

/// A row of the view `numbers`.
pub fn number(entity: i64, event: i64, created: i64, x: f64) -> WriteRow {
    write_row(id(entity), event, created, vec![Value::Double(x)])
}

pub fn note(digest: &str) -> Materialization {
    Materialization {
        view: "numbers".to_owned(),
        source: "data/numbers.csv".to_owned(),
        digest: digest.to_owned(),
    }
}
