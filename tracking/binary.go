package tracking

import (
	"encoding/binary"
	"time"

	"github.com/google/uuid"
)

// PostgreSQL's binary formats, for the two places where every event passes: the
// arrays that the upsert unnests, and the rows that COPY appends. pgx would
// write the same bytes, by way of an interface value for each cell.
//
// Sources: src/backend/utils/adt/arrayfuncs.c (array_recv), network.c
// (network_recv), timestamp.c (timestamptz_recv), and the chapter on COPY,
// "Binary Format".

// Object ids of the element types (src/include/catalog/pg_type.dat).
const (
	oidBool        = 16
	oidInt8        = 20
	oidInt4        = 23
	oidTimestamptz = 1184
	oidUUID        = 2950
)

// microseconds since 2000-01-01, the epoch of timestamptz; noTime is a null.
type microtime = int64

const noTime microtime = -1 << 63

var pgEpoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

func toMicrotime(t time.Time) microtime { return t.UnixMicro() - pgEpoch }

// arrayParam builds a one-dimensional array as a statement's parameter.
type arrayParam struct {
	buf   []byte
	n     uint32
	nulls bool
}

const arrayHeader = 20

func newArray(elementOID uint32, capacity, elementSize int) arrayParam {
	buf := make([]byte, arrayHeader, arrayHeader+capacity*(4+elementSize))
	binary.BigEndian.PutUint32(buf[0:], 1) // dimensions
	binary.BigEndian.PutUint32(buf[8:], elementOID)
	binary.BigEndian.PutUint32(buf[16:], 1) // lower bound
	return arrayParam{buf: buf}
}

// bytes is the finished parameter.
func (a *arrayParam) bytes() []byte {
	if a.n == 0 {
		binary.BigEndian.PutUint32(a.buf[0:], 0) // an empty array has no dimension
		return a.buf[:12]
	}
	if a.nulls {
		binary.BigEndian.PutUint32(a.buf[4:], 1)
	}
	binary.BigEndian.PutUint32(a.buf[12:], a.n)
	return a.buf
}

func (a *arrayParam) bool(v bool) {
	a.n++
	b := byte(0)
	if v {
		b = 1
	}
	a.buf = append(a.buf, 0, 0, 0, 1, b)
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
		a.nulls = true
		a.buf = append(a.buf, 0xff, 0xff, 0xff, 0xff)
		return
	}
	a.int8(t)
}

func (a *arrayParam) uuid(id uuid.UUID) {
	a.n++
	a.buf = append(a.buf, 0, 0, 0, 16)
	a.buf = append(a.buf, id[:]...)
}

// copyRows builds the data of COPY … FROM STDIN (FORMAT binary).
type copyRows struct{ buf []byte }

func newCopyRows(capacity int) copyRows {
	buf := make([]byte, 0, capacity)
	return copyRows{append(buf, "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"...)}
}

// bytes is the finished data.
func (c *copyRows) bytes() []byte { return binary.BigEndian.AppendUint16(c.buf, 0xffff) }

func (c *copyRows) row(columns uint16) { c.buf = binary.BigEndian.AppendUint16(c.buf, columns) }

func (c *copyRows) null() { c.buf = append(c.buf, 0xff, 0xff, 0xff, 0xff) }

func (c *copyRows) uuid(id uuid.UUID) {
	c.buf = append(c.buf, 0, 0, 0, 16)
	c.buf = append(c.buf, id[:]...)
}

func (c *copyRows) time(t microtime) {
	c.buf = append(c.buf, 0, 0, 0, 8)
	c.buf = binary.BigEndian.AppendUint64(c.buf, uint64(t))
}

func (c *copyRows) text(s string) {
	c.buf = binary.BigEndian.AppendUint32(c.buf, uint32(len(s)))
	c.buf = append(c.buf, s...)
}

func (c *copyRows) textOrNull(s string) {
	if s == "" {
		c.null()
		return
	}
	c.text(s)
}

// event appends e as a row of the columns that appendHistory names.
func (c *copyRows) event(e *Event) {
	c.row(9)
	c.uuid(e.EmailID)
	c.time(toMicrotime(e.OccurredAt))
	c.text(e.Type.String())
	c.text(clean(e.EventID, MaxEventID))
	c.textOrNull(e.Link)
	if e.IP.IsValid() {
		address := e.IP.AsSlice()
		family := byte(2) // PGSQL_AF_INET
		if e.IP.Is6() {
			family = 3 // PGSQL_AF_INET6
		}
		c.buf = binary.BigEndian.AppendUint32(c.buf, uint32(4+len(address)))
		c.buf = append(c.buf, family, byte(8*len(address)), 0, byte(len(address)))
		c.buf = append(c.buf, address...)
	} else {
		c.null()
	}
	c.textOrNull(e.UserAgent)
	c.textOrNull(e.Reason)
	c.textOrNull(e.Message)
}
