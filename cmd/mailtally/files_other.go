//go:build !unix

package main

func maxFiles() int { return manyFiles }
