// Package value stands in for moa's values: enough to read a job's inputs, nothing to compute with them.
package value

import (
	"encoding/json"
	"errors"
	"fmt"
	"iter"
)

// Kind is a value's kind.
type Kind string

// The kinds of JSON.
const (
	NullKind   Kind = "null"
	StringKind Kind = "string"
	NumberKind Kind = "number"
	BoolKind   Kind = "bool"
	ArrayKind  Kind = "array"
	ObjectKind Kind = "object"
)

// Errors of looking something up.
var (
	ErrAttributeNotFound = errors.New("attribute not found")
	ErrInvalidKey        = errors.New("invalid key")
)

// Value is any JSON value, or a Mapper.
type Value struct {
	v     any
	marks uint16
}

// Mapper is an object that the runner makes itself.
type Mapper interface {
	All() iter.Seq2[Value, Value]
	Attr(string) (Value, error)
	Get(Value) (Value, error)
	Keys() iter.Seq[Value]
	Len() int
	Values() iter.Seq[Value]
	WithMarks(uint16) Mapper
}

// Null is the value that is none.
func Null() Value { return Value{} }

// String makes a value of a string.
func String(s string) Value { return Value{v: s} }

// Object makes a value of a Mapper.
func Object(m Mapper) Value { return Value{v: m} }

// Kind returns the value's kind.
func (v Value) Kind() Kind {
	switch v.v.(type) {
	case nil:
		return NullKind
	case string:
		return StringKind
	case float64:
		return NumberKind
	case bool:
		return BoolKind
	case []any:
		return ArrayKind
	}
	return ObjectKind
}

// String returns the value as text.
func (v Value) String() string { return fmt.Sprint(v.v) }

// WithMarks returns the value with marks added.
func (v Value) WithMarks(marks uint16) Value { return Value{v.v, v.marks | marks} }

// HasMarks says whether the value has all of the marks.
func (v Value) HasMarks(marks uint16) bool { return v.marks&marks == marks }

// UnmarshalJSON reads a value.
func (v *Value) UnmarshalJSON(data []byte) error { return json.Unmarshal(data, &v.v) }

// MarshalJSON writes a value.
func (v Value) MarshalJSON() ([]byte, error) { return json.Marshal(v.v) }
