"""One scene over several processes: frames of each (`frames`) and what they exchange (`ranks`, `mesh`)."""
