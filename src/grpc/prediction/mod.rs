//! What is behind PredictionService, but for the answers at once.

mod jobs;
