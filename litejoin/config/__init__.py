"""Config text -> nodes with positions -> checked document. Reads files, starts nothing."""
