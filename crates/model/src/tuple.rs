//! Row images.

use bytes::Bytes;

/// One column's value in a row image. Values share the buffer that they arrived in.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Datum {
    /// SQL NULL.
    Null,
    /// A TOASTed value that the statement did not change, and that the server therefore did not send.
    UnchangedToast,
    /// The output of the type's output function under our canonical settings. UTF-8 unless the database's
    /// encoding is SQL_ASCII.
    Text(Bytes),
    /// The output of the type's send function.
    Binary(Bytes),
}

/// A row image: one [`Datum`] for each column of its relation, in the relation's order.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Tuple(pub Vec<Datum>);

impl Tuple {
    /// Bytes of all values.
    #[must_use]
    pub fn size(&self) -> usize {
        self.0.iter().map(Datum::size).sum()
    }

    /// About how many bytes of memory it holds: a NULL has its place too.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.size() + self.0.len() * size_of::<Datum>()
    }
}

impl Datum {
    /// Bytes of the value; 0 for those that carry none.
    #[must_use]
    pub fn size(&self) -> usize {
        match self {
            Self::Null | Self::UnchangedToast => 0,
            Self::Text(bytes) | Self::Binary(bytes) => bytes.len(),
        }
    }
}
