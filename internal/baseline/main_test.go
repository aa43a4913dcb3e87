package baseline_test

import (
	"os"
	"testing"

	"github.com/mailtally/mailtally/internal/testpg"
)

func TestMain(m *testing.M) { os.Exit(testpg.Run(m)) }
