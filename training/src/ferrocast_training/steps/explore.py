REPORT="report.html"
