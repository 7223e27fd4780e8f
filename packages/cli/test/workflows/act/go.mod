// The runner of GitHub workflows that the end-to-end test uses; github.patch makes it follow GitHub where it does not.
module wrapper

go 1.26

require github.com/nektos/act v0.2.87
