//! Tables of good and bad documents.
