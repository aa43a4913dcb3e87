package provider

import (
	"bytes"
	"errors"
	"io"
	"iter"

	"github.com/go-faster/jx"

	"github.com/mailtally/mailtally/tracking"
)

// decode begins to read a body. A byte order mark before it, which a parser may ignore
// (RFC 8259, section 8.1), is skipped.
func decode(body []byte) *jx.Decoder {
	return jx.DecodeBytes(bytes.TrimPrefix(body, []byte("\ufeff")))
}

// Object reads a body that is a JSON object. It calls field for each member; field reads
// or skips the value. Names are compared exactly, in case too. The error is a
// *[tracking.DropError].
//
// [Text], [Literal] and [Members] read a value of the type that they expect and skip any
// other as if it were missing, so only the few fields that identify an event can get it
// dropped. If a name is repeated, the last value of that type counts, and alone: objects
// are not merged.
func Object(body []byte, field func(d *jx.Decoder, name []byte) error) error {
	d := decode(body)
	if d.Next() != jx.Object {
		return &tracking.DropError{Reason: tracking.NotJSON, Detail: "not a JSON object"}
	}
	if err := d.ObjBytes(field); err != nil {
		return &tracking.DropError{Reason: tracking.NotJSON, Detail: rootCause(err).Error()}
	}
	if d.Skip() != io.EOF {
		return &tracking.DropError{Reason: tracking.NotJSON, Detail: "data after the object"}
	}
	return nil
}

// Members reads a value that is an object into *to, which it clears before it calls field
// for each member.
func Members[T any](d *jx.Decoder, to *T, field func(d *jx.Decoder, name []byte) error) error {
	if d.Next() != jx.Object {
		return d.Skip()
	}
	*to = *new(T)
	return d.ObjBytes(field)
}

// Text reads a string, unescaped. If the value is not a string, *to stays nil.
func Text(d *jx.Decoder, to *[]byte) error {
	if d.Next() != jx.String {
		return d.Skip()
	}
	s, err := d.StrBytes()
	*to = s
	return err
}

// Literal reads a number as its digits, whatever its size, or else a string.
func Literal(d *jx.Decoder, to *[]byte) error {
	if d.Next() != jx.Number {
		return Text(d, to)
	}
	n, err := d.Raw()
	*to = n
	return err
}

// Elements splits a body that is a JSON array into its elements; a body that is an object
// is its only element. Each is a part of body, byte for byte. If the JSON breaks off, the
// elements before that are returned all the same, and last the remainder with the error,
// a *[tracking.DropError].
func Elements(body []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		d := decode(body)
		if d.Next() != jx.Array {
			yield(body, nil) // an object, or something that Object will reject
			return
		}
		rest := body
		stopped := false
		err := d.Arr(func(d *jx.Decoder) error {
			element, err := d.Raw()
			if err != nil {
				return err
			}
			// They share memory, so their capacities tell where the element ends.
			rest = body[cap(body)-cap(element)+len(element):]
			if stopped = !yield(bytes.TrimSpace(element), nil); stopped {
				return errors.New("stopped")
			}
			return nil
		})
		switch {
		case stopped:
		case err != nil:
			yield(bytes.TrimLeft(rest, ", \t\r\n"), &tracking.DropError{Reason: tracking.NotJSON, Detail: rootCause(err).Error()})
		case d.Skip() != io.EOF:
			yield(bytes.TrimLeft(rest, "] \t\r\n"), &tracking.DropError{Reason: tracking.NotJSON, Detail: "data after the array"})
		}
	}
}

// rootCause returns the innermost error: the decoder wraps one layer per nesting level,
// which is long for deeply nested values and adds nothing.
func rootCause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
