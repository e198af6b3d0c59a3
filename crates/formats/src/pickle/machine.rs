//! The stack machine.

use super::document::{Document, Node, NodeId, PickleCall, Value, ValueRef};
use super::error::{PickleError, PickleErrorKind as Kind};
use super::input::Input;
use super::listener::{Disposition, KeepAll, LISTEN_DEPTH_MAX, PickleListener, PickleStep, path};
use super::memo::{self, Memo, MemoUse, Stored};
use super::numpy::{self, Made};
use super::opcode as op;
use super::text;
use std::io::Read;
use std::mem::size_of;
use std::sync::Arc;

/// Limits of a reader.
#[derive(Clone, Debug)]
pub struct PickleLimits {
    /// Approximate limit of the memory of values while the pickle is read, in bytes.
    pub memory_bytes: u64,
    /// Treatment of globals.
    pub globals: Globals,
}

impl Default for PickleLimits {
    /// 2 GiB, and plain data only.
    fn default() -> PickleLimits {
        PickleLimits {
            memory_bytes: 2 << 30,
            globals: Globals::Refuse,
        }
    }
}

/// Treatment of globals (names of classes and functions), calls and persistent ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Globals {
    /// Report an error.
    Refuse,
    /// Read those that make numpy's numbers as the numbers; report an error for others.
    Numbers,
    /// Record them as inert nodes.
    Inert,
}

/// Reads one pickle.
///
/// # Errors
/// If the pickle is malformed or beyond the limits, with its byte offset, or if the listener
/// refuses an item. A parser that has failed must not be used again.
pub fn read(source: impl Read, limits: &PickleLimits) -> Result<Document, PickleError> {
    Parser::silent(source, limits, KeepAll).finish()
}

/// A pickle being read, opcode by opcode, with a listener for list items.
///
/// Nodes are reference-counted, like Python's objects. A node without references from stack, memo
/// or containers is freed and its slot reused. Cycles stay until the end.
pub struct Parser<R, L> {
    input: Input<R>,
    nodes: Vec<Node>,
    /// Reference count of each node. A count that saturates stays so.
    references: Vec<u32>,
    vacant: Vec<u32>,
    /// Scratch; empty between calls.
    releasing: Vec<Value>,
    stack: Vec<Value>,
    marks: Vec<usize>,
    memo: Memo,
    held_bytes: u64,
    limits: PickleLimits,
    listener: L,
    listening: bool,
    ended: bool,
}

const VALUE_BYTES: usize = size_of::<Value>();
const NODE_BYTES: usize = size_of::<Node>() + size_of::<u32>();

impl<R: Read, L: PickleListener> Parser<R, L> {
    /// A parser at the start of a pickle. Without `uses`, every memo entry is kept to the end.
    pub fn new(
        source: R,
        limits: &PickleLimits,
        listener: L,
        uses: Option<Arc<MemoUse>>,
    ) -> Parser<R, L> {
        let mut parser = Parser::silent(source, limits, listener);
        parser.memo = Memo::new(uses);
        parser.listening = true;
        parser
    }

    fn silent(source: R, limits: &PickleLimits, listener: L) -> Parser<R, L> {
        Parser {
            input: Input::new(source),
            nodes: Vec::new(),
            references: Vec::new(),
            vacant: Vec::new(),
            releasing: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: Memo::default(),
            held_bytes: 0,
            limits: limits.clone(),
            listener,
            listening: false,
            ended: false,
        }
    }

    /// The listener.
    pub fn listener(&mut self) -> &mut L {
        &mut self.listener
    }

    /// Executes one opcode; `false` once the pickle has ended.
    ///
    /// # Errors
    /// If the pickle is malformed or beyond the limits, with its byte offset, or if the listener
    /// refuses an item. A parser that has failed must not be used again.
    pub fn advance(&mut self) -> Result<bool, PickleError> {
        if self.ended {
            return Ok(false);
        }
        let offset = self.input.offset();
        let step = self.step();
        self.ended = !matches!(step, Ok(true));
        step.map_err(|error| match error.kind {
            // The offset of the end says more than that of the opcode.
            Kind::Truncated | Kind::Io(_) => error,
            _ => PickleError { offset, ..error },
        })
    }

    /// Reads to the end of the pickle, which must be the end of the source.
    ///
    /// # Errors
    /// As [`Parser::advance`], and if anything follows or compressed data is truncated.
    pub fn finish_source(mut self) -> Result<Document, PickleError> {
        while self.advance()? {}
        if !self.input.at_end()? {
            return self.fail(Kind::Malformed("end: more data follows"));
        }
        self.finish()
    }

    /// Reads to the end of the pickle.
    ///
    /// # Errors
    /// As [`Parser::advance`].
    pub fn finish(mut self) -> Result<Document, PickleError> {
        while self.advance()? {}
        let root = self.pop()?;
        Ok(Document {
            root,
            encoded_bytes: self.input.offset(),
            nodes: self.nodes,
        })
    }

    /// Executes one opcode; `false` after the last.
    fn step(&mut self) -> Result<bool, PickleError> {
        let opcode = self.input.byte()?;
        match opcode {
            op::PROTO => {
                let version = self.input.byte()?;
                if version > 5 {
                    return self.fail(Kind::UnknownProtocol(version));
                }
            }
            // Frames are hints for reading ahead.
            op::FRAME => {
                self.input.array::<8>()?;
            }
            op::STOP => return Ok(false),
            op::MARK => {
                self.charge(size_of::<usize>())?;
                self.marks.push(self.stack.len());
            }
            op::POP => {
                if self.marks.last() == Some(&self.stack.len()) {
                    self.marks.pop();
                } else {
                    let value = self.pop()?;
                    self.release(value);
                }
            }
            op::POP_MARK => {
                for value in self.take_marked()? {
                    self.release(value);
                }
            }
            op::DUP => {
                let top = self.top()?;
                self.hold(top);
                self.push(top)?;
            }
            op::NONE => self.push(Value::None)?,
            op::NEWTRUE => self.push(Value::Boolean(true))?,
            op::NEWFALSE => self.push(Value::Boolean(false))?,
            op::INT | op::LONG | op::FLOAT => self.number_in_text(opcode)?,
            op::BININT => {
                let value = i32::from_le_bytes(self.input.array()?);
                self.push(Value::Integer(value.into()))?;
            }
            op::BININT1 => {
                let value = self.input.byte()?;
                self.push(Value::Integer(value.into()))?;
            }
            op::BININT2 => {
                let value = u16::from_le_bytes(self.input.array()?);
                self.push(Value::Integer(value.into()))?;
            }
            op::LONG1 | op::LONG4 => self.long(opcode)?,
            op::BINFLOAT => {
                let value = f64::from_be_bytes(self.input.array()?);
                self.push(Value::Float(value))?;
            }
            op::STRING | op::UNICODE => self.text_in_line(opcode)?,
            op::BINUNICODE | op::SHORT_BINUNICODE | op::BINUNICODE8 => {
                let bytes = self.counted(opcode)?;
                self.push_node(Node::Text(text::utf8(bytes)))?;
            }
            op::BINSTRING | op::SHORT_BINSTRING => {
                let bytes = self.counted(opcode)?;
                self.push_node(text::string_or_bytes(bytes))?;
            }
            op::BINBYTES | op::SHORT_BINBYTES | op::BINBYTES8 | op::BYTEARRAY8 => {
                let bytes = self.counted(opcode)?;
                self.push_node(Node::Bytes(bytes.into()))?;
            }
            op::NEXT_BUFFER => return self.fail(Kind::Malformed("reference to a buffer outside")),
            op::READONLY_BUFFER => {
                self.top()?;
            }
            op::EMPTY_LIST | op::EMPTY_SET => self.push_node(Node::List(Vec::new()))?,
            op::EMPTY_DICT => self.push_node(Node::Dictionary(Vec::new()))?,
            op::EMPTY_TUPLE => self.push_node(Node::Tuple(Box::default()))?,
            op::TUPLE1 => self.tuple(1)?,
            op::TUPLE2 => self.tuple(2)?,
            op::TUPLE3 => self.tuple(3)?,
            op::TUPLE => {
                let items = self.take_marked()?;
                self.push_node(Node::Tuple(items.into()))?;
            }
            op::LIST | op::FROZENSET => {
                let items = self.take_marked()?;
                self.push_node(Node::List(items))?;
            }
            op::DICT => {
                let items = self.take_marked()?;
                let entries = self.pairs(&items)?;
                self.push_node(Node::Dictionary(entries))?;
            }
            op::APPEND => {
                let item = self.pop()?;
                self.append(self.stack.len(), &[item])?;
            }
            op::APPENDS | op::ADDITEMS => {
                let mark = self.pop_mark()?;
                let items = self.stack.split_off(mark);
                self.append(mark, &items)?;
            }
            op::SETITEM => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_entries(&[(key, value)])?;
            }
            op::SETITEMS => {
                let items = self.take_marked()?;
                let entries = self.pairs(&items)?;
                self.set_entries(&entries)?;
            }
            op::PUT | op::BINPUT | op::LONG_BINPUT => {
                let index = memo::memo_index(&mut self.input, opcode)?;
                self.memoize(index)?;
            }
            op::MEMOIZE => self.memoize(self.memo.next())?,
            op::GET | op::BINGET | op::LONG_BINGET => {
                let index = memo::memo_index(&mut self.input, opcode)?;
                self.recall(index)?;
            }
            op::GLOBAL
            | op::STACK_GLOBAL
            | op::INST
            | op::OBJ
            | op::REDUCE
            | op::NEWOBJ
            | op::NEWOBJ_EX
            | op::BUILD
            | op::EXT1
            | op::EXT2
            | op::EXT4
            | op::PERSID
            | op::BINPERSID => self.code(opcode)?,
            unknown => return self.fail(Kind::UnknownOpcode(unknown)),
        }
        Ok(true)
    }

    /// Opcodes that name or call code: recorded, never carried out.
    fn code(&mut self, opcode: u8) -> Result<(), PickleError> {
        match opcode {
            op::GLOBAL => {
                let module = text::utf8(self.input.line()?);
                let name = text::utf8(self.input.line()?);
                self.push_global(module, name)
            }
            op::STACK_GLOBAL => {
                let name = self.pop_text()?;
                let module = self.pop_text()?;
                self.push_global(module, name)
            }
            op::EXT1 | op::EXT2 | op::EXT4 => {
                let code = match opcode {
                    op::EXT1 => self.input.byte()?.into(),
                    op::EXT2 => u16::from_le_bytes(self.input.array()?).into(),
                    _ => u32::from_le_bytes(self.input.array()?),
                };
                self.push_global("copyreg".into(), format!("extension {code}").into())
            }
            op::INST => {
                let module = text::utf8(self.input.line()?);
                let name = text::utf8(self.input.line()?);
                let arguments = self.take_marked()?;
                self.push_global(module, name)?;
                self.push_node(Node::Tuple(arguments.into()))?;
                self.push_call(2)
            }
            op::OBJ => {
                let mut arguments = self.take_marked()?;
                if arguments.is_empty() {
                    return self.fail(Kind::StackUnderflow);
                }
                let class = arguments.remove(0);
                self.push(class)?;
                self.push_node(Node::Tuple(arguments.into()))?;
                self.push_call(2)
            }
            op::REDUCE | op::NEWOBJ => self.push_call(2),
            op::NEWOBJ_EX => self.push_call(3),
            op::BUILD => {
                let state = self.pop()?;
                let target = self.top()?;
                let before = match self.node_mut(target) {
                    Some(Node::Call(call)) => call.state.replace(state),
                    _ => return self.fail(Kind::WrongKind("an object whose state to set")),
                };
                if let Some(before) = before {
                    self.release(before);
                }
                Ok(())
            }
            _ => {
                if self.limits.globals != Globals::Inert {
                    return self.fail(Kind::PersistentIdRefused);
                }
                let id = if opcode == op::PERSID {
                    let line = self.input.line()?;
                    self.push_node(Node::Text(text::utf8(line)))?;
                    self.pop()?
                } else {
                    self.pop()?
                };
                self.push_node(Node::PersistentId(id))
            }
        }
    }

    fn push_global(&mut self, module: Box<str>, name: Box<str>) -> Result<(), PickleError> {
        let is_refused = match self.limits.globals {
            Globals::Refuse => true,
            Globals::Numbers => !numpy::is_needed(&module, &name),
            Globals::Inert => false,
        };
        if is_refused {
            return self.fail(Kind::GlobalRefused(text::shown(&module, &name)));
        }
        self.push_node(Node::Global { module, name })
    }

    /// Replaces callable and arguments (positional and, with `parts` = 3, by name) by an inert call
    /// node.
    fn push_call(&mut self, parts: usize) -> Result<(), PickleError> {
        if self.limits.globals == Globals::Refuse {
            return self.fail(Kind::GlobalRefused("a call".to_owned()));
        }
        if parts == 3 {
            self.tuple(2)?;
        }
        let arguments = self.pop()?;
        let callable = self.pop()?;
        if self.limits.globals == Globals::Numbers {
            let made = numpy::made(&self.nodes, callable, arguments);
            if !matches!(made, Some(Made::Type)) {
                self.release(callable);
                self.release(arguments);
            }
            match made {
                Some(Made::Number(value)) => return self.push(value),
                Some(Made::Large(bytes)) => return self.push_node(Node::BigInteger(bytes)),
                Some(Made::Bytes(bytes)) => return self.push_node(Node::Bytes(bytes)),
                Some(Made::Type) => {}
                None => return self.fail(Kind::GlobalRefused("a call".to_owned())),
            }
        }
        self.push_node(Node::Call(Box::new(PickleCall {
            callable,
            arguments,
            state: None,
            items: Vec::new(),
            entries: Vec::new(),
        })))
    }

    fn fail<T>(&self, kind: Kind) -> Result<T, PickleError> {
        Err(self.input.fail(kind))
    }

    /// Charges memory against the limit before it is allocated.
    fn charge(&mut self, bytes: usize) -> Result<(), PickleError> {
        self.held_bytes += bytes as u64;
        if self.held_bytes > self.limits.memory_bytes {
            let limit = self.limits.memory_bytes;
            return self.fail(Kind::MemoryLimit { limit });
        }
        Ok(())
    }

    fn uncharge(&mut self, bytes: usize) {
        self.held_bytes = self.held_bytes.saturating_sub(bytes as u64);
    }

    #[inline]
    fn push(&mut self, value: Value) -> Result<(), PickleError> {
        if self.stack.len() == self.stack.capacity() {
            self.charge(VALUE_BYTES * self.stack.len().max(64))?;
        }
        self.stack.push(value);
        Ok(())
    }

    fn push_node(&mut self, node: Node) -> Result<(), PickleError> {
        self.charge(node_bytes(&node))?;
        let id = match self.vacant.pop() {
            Some(id) => {
                self.nodes[id as usize] = node;
                self.references[id as usize] = 1;
                id
            }
            None => {
                let Ok(id) = u32::try_from(self.nodes.len()) else {
                    return self.fail(Kind::MemoryLimit {
                        limit: self.limits.memory_bytes,
                    });
                };
                self.nodes.push(node);
                self.references.push(1);
                id
            }
        };
        self.push(Value::Node(NodeId(id)))
    }

    /// Lowest stack index above the innermost mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Value, PickleError> {
        if self.stack.len() <= self.floor() {
            return self.fail(Kind::StackUnderflow);
        }
        self.stack
            .pop()
            .ok_or_else(|| self.input.fail(Kind::StackUnderflow))
    }

    fn top(&self) -> Result<Value, PickleError> {
        match self.stack.last() {
            Some(&value) if self.stack.len() > self.floor() => Ok(value),
            _ => self.fail(Kind::StackUnderflow),
        }
    }

    fn pop_text(&mut self) -> Result<Box<str>, PickleError> {
        let value = self.pop()?;
        let text = match self.node_mut(value) {
            Some(Node::Text(text)) => text.clone(),
            _ => return self.fail(Kind::WrongKind("a string as a name")),
        };
        self.release(value);
        Ok(text)
    }

    fn pop_mark(&mut self) -> Result<usize, PickleError> {
        match self.marks.pop() {
            Some(mark) => {
                self.uncharge(size_of::<usize>());
                Ok(mark)
            }
            None => self.fail(Kind::NoMark),
        }
    }

    fn take_marked(&mut self) -> Result<Vec<Value>, PickleError> {
        let mark = self.pop_mark()?;
        Ok(self.stack.split_off(mark))
    }

    fn tuple(&mut self, count: usize) -> Result<(), PickleError> {
        let first = match self.stack.len().checked_sub(count) {
            Some(first) if first >= self.floor() => first,
            _ => return self.fail(Kind::StackUnderflow),
        };
        let items = self.stack.split_off(first);
        self.push_node(Node::Tuple(items.into()))
    }

    fn pairs(&self, items: &[Value]) -> Result<Vec<(Value, Value)>, PickleError> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return self.fail(Kind::WrongKind("a value for each key"));
        }
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    }

    fn node_mut(&mut self, value: Value) -> Option<&mut Node> {
        match value {
            Value::Node(id) => self.nodes.get_mut(id.0 as usize),
            _ => None,
        }
    }

    /// Appends to the container on the stack just below `end`.
    fn append(&mut self, end: usize, items: &[Value]) -> Result<(), PickleError> {
        if end <= self.floor() {
            return self.fail(Kind::StackUnderflow);
        }
        let target = self.stack[end - 1];
        let kept = self.announce(end - 1, items)?;
        let items = kept.as_deref().unwrap_or(items);
        self.charge(VALUE_BYTES * items.len())?;
        match self.node_mut(target) {
            Some(Node::List(list)) => list.extend_from_slice(items),
            Some(Node::Call(call)) => call.items.extend_from_slice(items),
            _ => return self.fail(Kind::WrongKind("a list to append to")),
        }
        Ok(())
    }

    /// Announces items to the listener; returns those to keep, if any was dropped.
    fn announce(
        &mut self,
        position: usize,
        items: &[Value],
    ) -> Result<Option<Vec<Value>>, PickleError> {
        if !self.listening {
            return Ok(None);
        }
        let mut steps = [PickleStep::Other; LISTEN_DEPTH_MAX];
        let Some(first) = path(&self.nodes, &self.stack, &self.marks, position, &mut steps) else {
            return Ok(None);
        };
        let mut kept = None;
        let mut given_up = Vec::new();
        for (index, &item) in items.iter().enumerate() {
            let view = ValueRef::new(&self.nodes, item);
            match self.listener.item(&steps[first..], view) {
                Ok(Disposition::Keep) => {
                    if let Some(kept) = &mut kept {
                        Vec::push(kept, item);
                    }
                }
                Ok(Disposition::HandOver) => {
                    kept.get_or_insert_with(|| items[..index].to_vec());
                    given_up.push(item);
                }
                Err(reason) => return self.fail(Kind::Refused(reason)),
            }
        }
        for value in given_up {
            self.release(value);
        }
        Ok(kept)
    }

    /// Adds a reference.
    #[inline]
    fn hold(&mut self, value: Value) {
        if let Value::Node(NodeId(id)) = value {
            let count = &mut self.references[id as usize];
            *count = count.saturating_add(1);
        }
    }

    /// Removes a reference, and frees nodes without references.
    fn release(&mut self, value: Value) {
        let mut pending = std::mem::take(&mut self.releasing);
        pending.push(value);
        while let Some(value) = pending.pop() {
            let Value::Node(NodeId(id)) = value else {
                continue;
            };
            let count = &mut self.references[id as usize];
            if *count == u32::MAX {
                continue;
            }
            *count -= 1;
            if *count > 0 {
                continue;
            }
            let node = std::mem::replace(&mut self.nodes[id as usize], Node::Released);
            self.uncharge(node_bytes(&node));
            self.vacant.push(id);
            match node {
                Node::List(items) => pending.extend(items),
                Node::Tuple(items) => pending.extend(items),
                Node::Dictionary(entries) => {
                    pending.extend(entries.into_iter().flat_map(<[Value; 2]>::from));
                }
                Node::Call(call) => {
                    pending.extend([call.callable, call.arguments]);
                    pending.extend(call.state);
                    pending.extend(call.items);
                    pending.extend(call.entries.into_iter().flat_map(<[Value; 2]>::from));
                }
                Node::PersistentId(id) => pending.push(id),
                Node::Text(_)
                | Node::Bytes(_)
                | Node::BigInteger(_)
                | Node::Global { .. }
                | Node::Released => {}
            }
        }
        self.releasing = pending;
    }

    fn set_entries(&mut self, entries: &[(Value, Value)]) -> Result<(), PickleError> {
        self.charge(2 * VALUE_BYTES * entries.len())?;
        let target = self.top()?;
        match self.node_mut(target) {
            Some(Node::Dictionary(dictionary)) => dictionary.extend_from_slice(entries),
            Some(Node::Call(call)) => call.entries.extend_from_slice(entries),
            _ => return self.fail(Kind::WrongKind("a dictionary to set an entry of")),
        }
        Ok(())
    }

    fn memoize(&mut self, index: u64) -> Result<(), PickleError> {
        let value = self.top()?;
        match self.memo.store(index, value) {
            Stored::Passed => {}
            Stored::Kept => {
                self.charge(memo::ENTRY_BYTES)?;
                self.hold(value);
            }
            Stored::Replaced(before) => {
                self.hold(value);
                self.release(before);
            }
        }
        Ok(())
    }

    fn recall(&mut self, index: u64) -> Result<(), PickleError> {
        let Some(fetched) = self.memo.fetch(index) else {
            return self.fail(Kind::UnknownMemo(index));
        };
        if fetched.last {
            // The memo's reference becomes the stack's.
            self.uncharge(memo::ENTRY_BYTES);
        } else {
            self.hold(fetched.value);
        }
        self.push(fetched.value)
    }

    /// The bytes of an opcode with a length prefix.
    fn counted(&mut self, opcode: u8) -> Result<Vec<u8>, PickleError> {
        let Some(count) = memo::length(&mut self.input, opcode)? else {
            return self.fail(Kind::Malformed("length: negative"));
        };
        let room = self.limits.memory_bytes.saturating_sub(self.held_bytes);
        if count > room {
            let limit = self.limits.memory_bytes;
            return self.fail(Kind::MemoryLimit { limit });
        }
        self.input.bytes(count)
    }

    fn long(&mut self, opcode: u8) -> Result<(), PickleError> {
        let count = match memo::length(&mut self.input, opcode)? {
            Some(count) if count <= text::INTEGER_BYTES_MAX as u64 => count,
            _ => return self.fail(Kind::Malformed("integer length")),
        };
        let bytes = self.input.bytes(count)?;
        match text::integer(&bytes) {
            Some(value) => self.push(Value::Integer(value)),
            None => self.push_node(Node::BigInteger(bytes.into())),
        }
    }

    fn number_in_text(&mut self, opcode: u8) -> Result<(), PickleError> {
        let line = self.input.line()?;
        match text::number(opcode, &line) {
            Some(Ok(value)) => self.push(value),
            Some(Err(node)) => self.push_node(node),
            None => self.fail(Kind::Malformed("number")),
        }
    }

    fn text_in_line(&mut self, opcode: u8) -> Result<(), PickleError> {
        let line = self.input.line()?;
        let node = if opcode == op::UNICODE {
            text::raw_unicode(&line).map(|text| Node::Text(text.into()))
        } else {
            text::quoted(&line).map(text::string_or_bytes)
        };
        match node {
            Some(node) => self.push_node(node),
            None => self.fail(Kind::Malformed("string")),
        }
    }
}

/// Approximate memory of a node in bytes.
fn node_bytes(node: &Node) -> usize {
    let held = match node {
        Node::Text(text) => text.len(),
        Node::Bytes(bytes) | Node::BigInteger(bytes) => bytes.len(),
        Node::Global { module, name } => module.len() + name.len(),
        Node::Tuple(items) => VALUE_BYTES * items.len(),
        Node::List(items) => VALUE_BYTES * items.len(),
        Node::Dictionary(entries) => 2 * VALUE_BYTES * entries.len(),
        Node::Call(call) => {
            size_of::<PickleCall>() + VALUE_BYTES * (call.items.len() + 2 * call.entries.len())
        }
        Node::PersistentId(_) | Node::Released => 0,
    };
    NODE_BYTES + held
}
