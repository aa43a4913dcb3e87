package tracking

import (
	"encoding/binary"
	"time"

	"github.com/google/uuid"
)

// PostgreSQL's binary formats, for the two places that every event passes through: the
// arrays that the upsert unnests, and the rows that COPY appends. pgx would write the
// same bytes, but through an interface value for each cell.
//
// Sources: src/backend/utils/adt/arrayfuncs.c (array_recv), network.c (network_recv),
// timestamp.c (timestamptz_recv), and the chapter on COPY, "Binary Format".

// Object ids of the element types (src/include/catalog/pg_type.dat).
const (
	oidInt8        = 20
	oidInt4        = 23
	oidText        = 25
	oidTimestamptz = 1184
	oidUUID        = 2950
)

// null is the length field of a NULL value, in arrays and rows alike.
const null = "\xff\xff\xff\xff"

// microtime is microseconds since 2000-01-01, the epoch of timestamptz; noTime is NULL.
type microtime = int64

const noTime microtime = -1 << 63

var pgEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

func toMicrotime(t time.Time) microtime { return t.UnixMicro() - pgEpoch }

// arrayParam builds a one-dimensional array as a statement parameter.
type arrayParam struct {
	buf   []byte
	n     uint32
	nulls uint32
}

const arrayHeader = 20

func newArray(elementOID uint32, capacity, elementSize int) arrayParam {
	buf := make([]byte, arrayHeader, arrayHeader+capacity*(4+elementSize))
	binary.BigEndian.PutUint32(buf[0:], 1) // dimensions
	binary.BigEndian.PutUint32(buf[8:], elementOID)
	binary.BigEndian.PutUint32(buf[16:], 1) // lower bound
	return arrayParam{buf: buf}
}

// bytes returns the finished parameter. An array of nothing but NULLs, as most batches
// have for the rarer types, becomes NULL itself.
func (a *arrayParam) bytes() []byte {
	switch {
	case a.n == 0:
		binary.BigEndian.PutUint32(a.buf[0:], 0) // an empty array has no dimensions
		return a.buf[:12]
	case a.nulls == a.n:
		return nil
	case a.nulls > 0:
		binary.BigEndian.PutUint32(a.buf[4:], 1)
	}
	binary.BigEndian.PutUint32(a.buf[12:], a.n)
	return a.buf
}

func (a *arrayParam) int4(v int32) {
	a.n++
	a.buf = append(a.buf, 0, 0, 0, 4)
	a.buf = binary.BigEndian.AppendUint32(a.buf, uint32(v))
}

func (a *arrayParam) int8(v int64) {
	a.n++
	a.buf = append(a.buf, 0, 0, 0, 8)
	a.buf = binary.BigEndian.AppendUint64(a.buf, uint64(v))
}

func (a *arrayParam) time(t microtime) {
	if t == noTime {
		a.n++
		a.nulls++
		a.buf = append(a.buf, null...)
		return
	}
	a.int8(t)
}

// text appends s; an empty string becomes NULL.
func (a *arrayParam) text(s string) {
	a.n++
	if s == "" {
		a.nulls++
	}
	a.buf = appendTextOrNull(a.buf, s)
}

func (a *arrayParam) uuid(id uuid.UUID) {
	a.n++
	a.buf = append(a.buf, 0, 0, 0, 16)
	a.buf = append(a.buf, id[:]...)
}

func int4Param(v int32) []byte { return binary.BigEndian.AppendUint32(nil, uint32(v)) }

func boolParam(v bool) []byte {
	if v {
		return []byte{1}
	}
	return []byte{0}
}

// The data of COPY … FROM STDIN (FORMAT binary) is a header, rows and a trailer.
const (
	copyHeader  = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"
	copyTrailer = "\xff\xff"
)

// appendCopyRow appends e as a row of the columns that appendHistory names.
func appendCopyRow(buf []byte, e *Event) []byte {
	buf = append(buf, 0, 9) // columns
	buf = append(buf, 0, 0, 0, 16)
	buf = append(buf, e.EmailID[:]...)
	buf = append(buf, 0, 0, 0, 8)
	buf = binary.BigEndian.AppendUint64(buf, uint64(toMicrotime(e.OccurredAt)))
	buf = appendText(buf, e.Type.String())
	buf = appendText(buf, Clean(e.EventID, MaxEventID))
	buf = appendTextOrNull(buf, e.Link)
	if e.IP.IsValid() {
		address := e.IP.AsSlice()
		family := byte(2) // PGSQL_AF_INET
		if e.IP.Is6() {
			family = 3 // PGSQL_AF_INET6
		}
		buf = binary.BigEndian.AppendUint32(buf, uint32(4+len(address)))
		buf = append(buf, family, byte(8*len(address)), 0, byte(len(address)))
		buf = append(buf, address...)
	} else {
		buf = append(buf, null...)
	}
	buf = appendTextOrNull(buf, e.UserAgent)
	buf = appendTextOrNull(buf, e.Reason)
	return appendTextOrNull(buf, e.Message)
}

func appendText(buf []byte, s string) []byte {
	buf = binary.BigEndian.AppendUint32(buf, uint32(len(s)))
	return append(buf, s...)
}

func appendTextOrNull(buf []byte, s string) []byte {
	if s == "" {
		return append(buf, null...)
	}
	return appendText(buf, s)
}
