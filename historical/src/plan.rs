//! The plan of a join: what the parent process writes to stdin, read and checked.
//!
//! Knows no files; what the plan says of them is checked where they are opened.

use std::{
    collections::HashSet,
    io::Read,
    path::{Path, PathBuf},
};

use ferrocast_freshness::{OffTime, is_outside};
use serde::Deserialize;

use crate::{
    error::{Error, Result},
    times::{MICROS_MAX, MICROS_MIN},
    value_type::{Scalar, ValueType},
};

/// A plan that is longer is no plan.
const PLAN_BYTES_MAX: u64 = 64 << 20;
/// With less than this there is no room for one batch of rows.
pub(crate) const MEMORY_BYTES_MIN: usize = 1 << 20;
/// Each view keeps files open while the output is written.
const VIEWS_MAX: usize = 64;

/// What to join, and where to write it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Plan {
    /// The rows to which features are joined.
    pub(crate) spine: SpinePlan,
    /// The views whose features are joined, in the order of their columns.
    pub(crate) views: Vec<ViewPlan>,
    /// The features' output columns in their order, all of them; empty: view by view.
    #[serde(default)]
    pub(crate) columns: Vec<String>,
    /// Where the training set goes.
    pub(crate) out: OutPlan,
    /// Memory for rows. The process itself takes some tens of megabytes beside it.
    pub(crate) memory_bytes_max: usize,
    /// A folder for files that do not outlive the join.
    pub(crate) work_dir: PathBuf,
}

/// The spine: labels, with the time at which each was known.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SpinePlan {
    /// The file.
    pub(crate) file: FilePlan,
    /// Its column with the time of each row.
    pub(crate) timestamp_field: String,
}

/// A Parquet file that is read.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct FilePlan {
    /// Where it is.
    pub(crate) path: PathBuf,
    shown: Option<String>,
}

impl FilePlan {
    /// How faults name it: as the plan says, or else by its path. Whoever reads the faults need not know our folders.
    pub(crate) fn shown(&self) -> String {
        let path = || self.path.display().to_string();
        self.shown.clone().unwrap_or_else(path)
    }
}

/// A view: a history of features by join key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ViewPlan {
    /// Its name, for errors and progress.
    pub(crate) name: String,
    /// Columns of the spine and of the history.
    pub(crate) join_keys: Vec<JoinKey>,
    /// A value older than this is none.
    pub(crate) ttl_micros: Option<i64>,
    /// Time that does not count towards the TTL: stretches from their begin to before their end, in order, with time between.
    #[serde(default)]
    pub(crate) off_micros: Off,
    /// What is joined.
    pub(crate) features: Vec<Feature>,
    /// Where its rows are, in the order in which a load goes through them, and with its outcome: of rows that are alike in
    /// both times the first one is taken. The rows of a file without a column for the time of writing count as written
    /// at once, after those of every such file before it, and before every row whose time of writing is known.
    pub(crate) history: Vec<History>,
}

/// Stretches of time, in microseconds since 1970.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(try_from = "Vec<(i64, i64)>")]
pub(crate) struct Off(Option<OffTime>);

impl TryFrom<Vec<(i64, i64)>> for Off {
    type Error = String;

    fn try_from(stretches: Vec<(i64, i64)>) -> std::result::Result<Off, String> {
        let times = MICROS_MIN..=MICROS_MAX;
        if stretches.is_empty() {
            return Ok(Off(None));
        }
        let is_time = |(start, end): &(i64, i64)| times.contains(start) && times.contains(end);
        if let Some(at) = stretches.iter().position(|stretch| !is_time(stretch)) {
            return Err(format!(
                "off_micros[{at}]: give times of the years 1 to 9999"
            ));
        }
        let off = OffTime::new(stretches).map_err(|at| {
            format!("off_micros[{at}]: give each as [begin, end], in order, with time between")
        })?;
        Ok(Off(Some(off)))
    }
}

/// A join key.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct JoinKey {
    /// The column's name.
    pub(crate) name: String,
    #[serde(rename = "type")]
    key_type: ValueType,
}

impl JoinKey {
    /// Its type; a list is refused when the plan is read.
    pub(crate) fn scalar(&self) -> Scalar {
        match self.key_type {
            ValueType::One(scalar) | ValueType::List(scalar) => scalar,
        }
    }
}

/// A feature.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Feature {
    /// The column's name in the history.
    pub(crate) name: String,
    /// Its type in the output.
    #[serde(rename = "type")]
    pub(crate) value_type: ValueType,
    /// The column's name in the output.
    pub(crate) output: String,
}

/// Files of one layout.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct History {
    /// The files.
    pub(crate) files: Vec<FilePlan>,
    /// The column with the time at which a row's values became true.
    pub(crate) timestamp_field: String,
    /// The column with the time at which the row was written.
    pub(crate) created_timestamp_field: Option<String>,
}

/// Where the training set goes: one of the two.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutPlan {
    path: Option<PathBuf>,
    #[serde(default)]
    arrow_stream: bool,
}

impl OutPlan {
    /// A Parquet file, which appears when it is whole; one that is there is replaced.
    ///
    /// None stands for Arrow's IPC stream on stdout. Its reader has to ask for the exit code: a stream that broke off may
    /// look whole.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

impl Plan {
    /// Reads and checks a plan.
    ///
    /// # Errors
    /// `InvalidArgument` with every fault of the plan, each with its place.
    pub(crate) fn read(source: impl Read) -> Result<Plan> {
        let mut text = Vec::new();
        let read = source.take(PLAN_BYTES_MAX + 1).read_to_end(&mut text);
        read.map_err(|fault| {
            Error::failed_precondition(format!("stdin: it cannot be read: {fault}"))
        })?;
        if u64::try_from(text.len()).unwrap_or(u64::MAX) > PLAN_BYTES_MAX {
            let fault = format!("longer than {PLAN_BYTES_MAX} bytes");
            return Err(Error::invalid("the plan", fault));
        }
        let plan: Plan = serde_json::from_slice(&text)
            .map_err(|fault| Error::invalid("the plan", fault.to_string()))?;
        let faults = plan.faults();
        if faults.is_empty() {
            Ok(plan)
        } else {
            Err(Error::faults(&faults))
        }
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        if self.memory_bytes_max < MEMORY_BYTES_MIN {
            faults.push(format!(
                "memory_bytes_max: {} is too few; give {MEMORY_BYTES_MIN} or more",
                self.memory_bytes_max
            ));
        }
        if self.out.path.is_some() == self.out.arrow_stream {
            faults.push("out: give either a path, or arrow_stream: true".to_owned());
        }
        if self.views.is_empty() || self.views.len() > VIEWS_MAX {
            let count = self.views.len();
            faults.push(format!("views: {count}; give 1 to {VIEWS_MAX}"));
        }
        for (index, view) in self.views.iter().enumerate() {
            view.add_faults(index, &mut faults);
        }
        self.add_output_faults(&mut faults);
        self.add_column_faults(&mut faults);
        faults
    }

    /// For each feature's output column, in their order, its place among the features view by view.
    pub(crate) fn column_order(&self) -> Vec<usize> {
        let outputs = self.views.iter().flat_map(|view| &view.features);
        let outputs: Vec<&str> = outputs.map(|feature| feature.output.as_str()).collect();
        if self.columns.is_empty() {
            return (0..outputs.len()).collect();
        }
        let place = |name: &String| outputs.iter().position(|output| output == name);
        self.columns.iter().filter_map(place).collect()
    }

    fn add_column_faults(&self, faults: &mut Vec<String>) {
        let features = self.views.iter().flat_map(|view| &view.features);
        let outputs: HashSet<&str> = features.map(|feature| feature.output.as_str()).collect();
        let columns: HashSet<&str> = self.columns.iter().map(String::as_str).collect();
        let is_whole = columns == outputs && columns.len() == self.columns.len();
        if !self.columns.is_empty() && !is_whole {
            faults.push("columns: give the output of every feature once, or nothing".to_owned());
        }
    }

    fn add_output_faults(&self, faults: &mut Vec<String>) {
        let mut seen = HashSet::new();
        for view in &self.views {
            for feature in &view.features {
                if !seen.insert(feature.output.as_str()) {
                    faults.push(format!(
                        "view \"{}\", feature \"{}\": the output has a column \"{}\" already; give another name as output",
                        view.name, feature.name, feature.output
                    ));
                }
            }
        }
    }

    /// Every file that is read.
    pub(crate) fn inputs(&self) -> impl Iterator<Item = &Path> {
        let histories = self.views.iter().flat_map(|view| &view.history);
        let files = histories.flat_map(|history| &history.files);
        std::iter::once(&self.spine.file)
            .chain(files)
            .map(|file| file.path.as_path())
    }
}

impl ViewPlan {
    /// Whether at a row of the spine what the history has of another time is too old.
    pub(crate) fn is_outside(&self, history_time: i64, spine_time: i64) -> bool {
        self.ttl_micros.is_some_and(|ttl| {
            is_outside(ttl, self.off_micros.0.as_ref(), history_time, spine_time)
        })
    }

    fn add_faults(&self, index: usize, faults: &mut Vec<String>) {
        let mut fault =
            |what: String| faults.push(format!("views[{index}] \"{}\": {what}", self.name));
        if self.join_keys.is_empty() {
            fault("join_keys: give at least one".to_owned());
        }
        if self.features.is_empty() {
            fault("features: give at least one".to_owned());
        }
        if self
            .ttl_micros
            .is_some_and(|ttl| !(0..=MICROS_MAX - MICROS_MIN).contains(&ttl))
        {
            fault("ttl_micros: give 0 or more, up to 9999 years, or null".to_owned());
        }
        let mut names = HashSet::new();
        for key in &self.join_keys {
            let key_types = [Scalar::String, Scalar::Int32, Scalar::Int64, Scalar::Bytes];
            let is_key =
                matches!(key.key_type, ValueType::One(scalar) if key_types.contains(&scalar));
            if !is_key {
                fault(format!(
                    "join key \"{}\": {} is no type of a key; expected string, int32, int64 or bytes",
                    key.name, key.key_type
                ));
            }
            if !names.insert(&key.name) {
                fault(format!("join key \"{}\": it is there twice", key.name));
            }
        }
    }
}
