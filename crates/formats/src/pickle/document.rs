//! The contents of a pickle: an arena of nodes and a root.

/// A value: a scalar, or a reference to a node of the document.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// Python's `None`.
    None,
    /// `True` or `False`.
    Boolean(bool),
    /// An integer that fits 64 bits.
    Integer(i64),
    /// A float.
    Float(f64),
    /// Anything else.
    Node(NodeId),
}

/// Identifies a node of a document. Equal ids are the same Python object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(super) u32);

/// A value that is not a scalar. Nodes may form cycles, as Python objects may.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Node {
    /// A string.
    Text(Box<str>),
    /// `bytes` or `bytearray`.
    Bytes(Box<[u8]>),
    /// An integer beyond 64 bits: little-endian two's complement.
    BigInteger(Box<[u8]>),
    /// A list, set or frozen set, in the order written.
    List(Vec<Value>),
    /// A tuple.
    Tuple(Box<[Value]>),
    /// A dictionary, in the order written; the last of equal keys wins.
    Dictionary(Vec<(Value, Value)>),
    /// The name of a class or function, such as `torch._utils._rebuild_tensor_v2`. Inert.
    Global {
        /// The module.
        module: Box<str>,
        /// The name within the module.
        name: Box<str>,
    },
    /// A call or construction that Python would carry out. Inert.
    Call(Box<PickleCall>),
    /// A reference to an object outside of the pickle, such as a tensor's storage. Inert.
    PersistentId(Value),
    /// A node without references.
    Released,
}

/// A call in the pickle, which is never made.
#[derive(Clone, Debug, PartialEq)]
pub struct PickleCall {
    /// The callable; a [`Node::Global`] in an ordinary pickle.
    pub callable: Value,
    /// The arguments; a [`Node::Tuple`] in an ordinary pickle.
    pub arguments: Value,
    /// The state set afterwards (`__setstate__`), if any.
    pub state: Option<Value>,
    /// Items appended afterwards.
    pub items: Vec<Value>,
    /// Entries set afterwards, as in an `OrderedDict`.
    pub entries: Vec<(Value, Value)>,
}

/// The contents of a pickle.
#[derive(Debug)]
pub struct Document {
    pub(super) nodes: Vec<Node>,
    pub(super) root: Value,
    pub(super) encoded_bytes: u64,
}

impl Document {
    /// The object in the pickle.
    pub fn root(&self) -> ValueRef<'_> {
        ValueRef::new(&self.nodes, self.root)
    }

    /// Number of bytes of the pickle; another one may follow.
    pub fn encoded_bytes(&self) -> u64 {
        self.encoded_bytes
    }
}

/// A value together with its document.
#[derive(Clone, Copy)]
pub struct ValueRef<'a> {
    nodes: &'a [Node],
    value: Value,
}

impl<'a> ValueRef<'a> {
    pub(super) fn new(nodes: &'a [Node], value: Value) -> ValueRef<'a> {
        ValueRef { nodes, value }
    }

    /// The value itself.
    pub fn value(self) -> Value {
        self.value
    }

    /// The node that the value refers to, or `None` for a scalar.
    pub fn node(self) -> Option<&'a Node> {
        match self.value {
            Value::Node(id) => self.nodes.get(id.0 as usize),
            _ => None,
        }
    }

    /// Another value of the same document.
    pub fn at(self, value: Value) -> ValueRef<'a> {
        ValueRef {
            nodes: self.nodes,
            value,
        }
    }

    /// Whether this is `None`.
    pub fn is_none(self) -> bool {
        self.value == Value::None
    }

    /// The integer (or boolean, as in Python), if it is one and fits.
    pub fn integer(self) -> Option<i64> {
        match self.value {
            Value::Integer(integer) => Some(integer),
            Value::Boolean(boolean) => Some(boolean.into()),
            _ => None,
        }
    }

    /// The integer, if it is one from 0 to 2^64 − 1.
    pub fn unsigned(self) -> Option<u64> {
        match (self.node(), self.integer()) {
            (_, Some(integer)) => u64::try_from(integer).ok(),
            (Some(Node::BigInteger(bytes)), None) => {
                let (low, high) = bytes.split_at_checked(8)?;
                high.iter()
                    .all(|&byte| byte == 0)
                    .then(|| low.try_into().map(u64::from_le_bytes).ok())?
            }
            _ => None,
        }
    }

    /// The number as a float, if it is a float or an integer.
    pub fn float(self) -> Option<f64> {
        match self.value {
            Value::Float(float) => Some(float),
            _ => self.integer().map(|integer| integer as f64),
        }
    }

    /// The boolean, if it is one.
    pub fn boolean(self) -> Option<bool> {
        match self.value {
            Value::Boolean(boolean) => Some(boolean),
            _ => None,
        }
    }

    /// The string, if it is one.
    pub fn text(self) -> Option<&'a str> {
        match self.node() {
            Some(Node::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The items of a list, set or tuple, or those appended to an inert object.
    pub fn items(self) -> Option<impl ExactSizeIterator<Item = ValueRef<'a>> + Clone> {
        let items: &'a [Value] = match self.node()? {
            Node::List(items) => items,
            Node::Tuple(items) => items,
            Node::Call(call) => &call.items,
            _ => return None,
        };
        Some(items.iter().map(move |&value| self.at(value)))
    }

    /// Keys and values of a dictionary, or those set on an inert object such as an `OrderedDict`.
    pub fn entries(self) -> Option<impl DoubleEndedIterator<Item = (ValueRef<'a>, ValueRef<'a>)>> {
        let entries: &'a [(Value, Value)] = match self.node()? {
            Node::Dictionary(entries) => entries,
            Node::Call(call) => &call.entries,
            _ => return None,
        };
        Some(
            entries
                .iter()
                .map(move |&(key, value)| (self.at(key), self.at(value))),
        )
    }

    /// The value that a dictionary holds for a string key.
    pub fn entry(self, key: &str) -> Option<ValueRef<'a>> {
        self.entries()?
            .rev()
            .find_map(|(candidate, value)| (candidate.text() == Some(key)).then_some(value))
    }

    /// Module and name, if this is a global.
    pub fn global(self) -> Option<(&'a str, &'a str)> {
        match self.node() {
            Some(Node::Global { module, name }) => Some((module, name)),
            _ => None,
        }
    }

    /// The call, if this is one.
    pub fn call(self) -> Option<&'a PickleCall> {
        match self.node() {
            Some(Node::Call(call)) => Some(call),
            _ => None,
        }
    }

    /// The reference, if this is a persistent id.
    pub fn persistent_id(self) -> Option<ValueRef<'a>> {
        match self.node() {
            Some(Node::PersistentId(id)) => Some(self.at(*id)),
            _ => None,
        }
    }

    /// The kind of value, for messages.
    pub fn kind(self) -> &'static str {
        match self.value {
            Value::None => "None",
            Value::Boolean(_) => "a boolean",
            Value::Integer(_) => "an integer",
            Value::Float(_) => "a float",
            Value::Node(_) => match self.node() {
                Some(Node::Text(_)) => "a string",
                Some(Node::Bytes(_)) => "bytes",
                Some(Node::BigInteger(_)) => "an integer beyond 64 bits",
                Some(Node::List(_)) => "a list",
                Some(Node::Tuple(_)) => "a tuple",
                Some(Node::Dictionary(_)) => "a dictionary",
                Some(Node::Global { .. }) => "a global",
                Some(Node::Call(_)) => "an object",
                Some(Node::PersistentId(_)) => "an external reference",
                Some(Node::Released) | None => "a released value",
            },
        }
    }
}
