package provider

import (
	"bytes"
	"errors"
	"io"
	"iter"

	"github.com/go-faster/jx"

	"github.com/mailtally/mailtally/tracking"
)

// Object reads a body that is a JSON object: field is called with each of its
// members, and reads or skips the value. Where a name is repeated, the last one
// counts. The error is a *[tracking.DropError].
//
// [Text], [Literal] and [Members] read a value of the type that they expect, and pass
// over any other as if it were missing: only the few fields that identify an event
// can drop it.
func Object(body []byte, field func(d *jx.Decoder, name []byte) error) error {
	d := jx.DecodeBytes(body)
	if d.Next() != jx.Object {
		return &tracking.DropError{Reason: tracking.NotJSON, Detail: "not a JSON object"}
	}
	if err := d.ObjBytes(field); err != nil {
		return &tracking.DropError{Reason: tracking.NotJSON, Detail: rootCause(err).Error()}
	}
	if d.Skip() != io.EOF {
		return &tracking.DropError{Reason: tracking.NotJSON, Detail: "more follows the object"}
	}
	return nil
}

// Members reads a value that is an object.
func Members(d *jx.Decoder, field func(d *jx.Decoder, name []byte) error) error {
	if d.Next() != jx.Object {
		return d.Skip()
	}
	return d.ObjBytes(field)
}

// Text reads a string, unescaped. It stays nil where there is none.
func Text(d *jx.Decoder, to *[]byte) error {
	if d.Next() != jx.String {
		return d.Skip()
	}
	s, err := d.StrBytes()
	*to = s
	return err
}

// Literal reads a number by its digits, whatever its size, or else a string.
func Literal(d *jx.Decoder, to *[]byte) error {
	if d.Next() != jx.Number {
		return Text(d, to)
	}
	n, err := d.Raw()
	*to = n
	return err
}

// Elements cuts a body that is a JSON array into its elements, or gives one that is
// an object as it is. Each is a part of body, byte for byte. Where the JSON breaks
// off, what came before is given all the same, and the rest with the error, a
// *[tracking.DropError], at the end.
func Elements(body []byte) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		d := jx.DecodeBytes(body)
		if d.Next() != jx.Array {
			yield(body, nil) // an object, or what Object finds to be none
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
			yield(bytes.TrimLeft(rest, "] \t\r\n"), &tracking.DropError{Reason: tracking.NotJSON, Detail: "more follows the array"})
		}
	}
}

// rootCause is the innermost error: the decoder wraps one layer a nesting level,
// which is long for what is nested deeply, and says nothing.
func rootCause(err error) error {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err
		}
		err = inner
	}
}
