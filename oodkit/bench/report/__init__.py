"""Reports of run folders: one HTML page without network, or Markdown, beside the paper's figures."""
