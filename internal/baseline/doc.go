// Package baseline holds the four ways in which applications usually count
// email events, as small as they can be written, to show what mailtally is for
// and to be measured beside it (internal/bench, the part apply). Nothing in
// production uses it.
//
//	way                 right?   price
//	read-modify-write   no       loses events as soon as two writers meet
//	conditional update  yes      a transaction an event; a row that grows, rewritten whole
//	advisory lock       yes      the same, and round trips that others wait for
//	serializable        yes      the same, and work done again at every conflict
//
// Each way has what its users would give it: prepared statements, a pool, an index for
// its one query, and redeliveries recognized by their event id. The three that read and
// then write share that code, so that they differ only in what protects it.
//
// [tracking.Store.Apply] is a conditional update too. It applies thousands of events in
// one statement, and its row remembers 8 bytes per event, for a bounded number of
// events, and no clicks.
package baseline
